from __future__ import annotations

import os

import pytest

from opengte.runtime import threads


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Eight processors on four cores, in a control group that says nothing yet."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    for processor in range(8):
        folder = tmp_path / f"cpus/cpu{processor}/topology"
        folder.mkdir(parents=True)
        (folder / "thread_siblings_list").write_text(f"{processor % 4},{processor % 4 + 4}\n")
    (tmp_path / "self").write_text("0::/user/job\n")
    (tmp_path / "groups/user/job").mkdir(parents=True)
    monkeypatch.setattr(threads, "_TOPOLOGY", tmp_path / "cpus")
    monkeypatch.setattr(threads, "_SELF", tmp_path / "self")
    monkeypatch.setattr(threads, "_CGROUPS", tmp_path / "groups")
    return tmp_path


def test_hyper_threads_of_a_core_count_once(machine):
    assert threads.available_cpus() == 4


def test_affinity_caps(machine, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    assert threads.available_cpus() == 2


@pytest.mark.parametrize(
    ("quota", "expected"), [("max 100000", 4), ("150000 100000", 2), ("5 100000", 1)]
)
def test_quota_of_any_enclosing_group_caps(machine, quota, expected):
    (machine / "groups/user/job/cpu.max").write_text("max 100000")
    (machine / "groups/user/cpu.max").write_text(quota)
    assert threads.available_cpus() == expected


@pytest.mark.parametrize(("quota", "expected"), [(-1, 4), (300000, 3)])
def test_quota_of_version_1_caps(machine, quota, expected):
    (machine / "self").write_text("4:memory:/x\n3:cpu,cpuacct:/job\n")
    folder = machine / "groups/cpu/job"
    folder.mkdir(parents=True)
    (folder / "cpu.cfs_quota_us").write_text(f"{quota}\n")
    (folder / "cpu.cfs_period_us").write_text("100000\n")
    assert threads.available_cpus() == expected


@pytest.mark.parametrize(
    ("wish", "expected"), [("1", 1), ("2,4", 2), ("64", 4), ("no", 4), ("0", 4)]
)
def test_omp_num_threads_is_a_wish_that_is_heard(machine, monkeypatch, wish, expected):
    monkeypatch.setenv("OMP_NUM_THREADS", wish)
    assert threads.available_cpus() == expected


def test_machines_that_tell_nothing_still_give_one(machine, monkeypatch):
    monkeypatch.setattr(threads, "_TOPOLOGY", machine / "absent")
    monkeypatch.setattr(threads, "_SELF", machine / "absent")
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert threads.available_cpus() == 1
