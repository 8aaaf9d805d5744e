"""Several processes mine together: once each, also when one of them is killed."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from opengte.errors import ConfigError
from opengte.mining.claims import claim, share_work
from opengte.mining.cores import MiningInputs, mine_on_cores
from opengte.mining.mine import mine_negatives
from opengte.mining.rules import MiningRules
from opengte.mining.teachers import EncoderTeacher
from opengte.records import Pair
from opengte.runtime.hashed import HashEncoder

PAIRS = [Pair(query=f"query {i} {i % 7}", positive=f"answer {i} {i % 5} end") for i in range(60)]

HOLDER = """
import sys, time
from pathlib import Path
from opengte.mining.claims import claim
with claim(Path(sys.argv[1]), wait=True):
    print("held", flush=True)
    time.sleep(60)
"""


def make_inputs(num_pairs: int) -> MiningInputs:
    return MiningInputs(
        PAIRS[:num_pairs],
        None,
        EncoderTeacher(HashEncoder(32), shard_texts=10),
        MiningRules(num_negatives=3, perc_pos=None),
        {"block_pairs": 8},
    )


def test_a_claim_is_held_by_one_and_freed_by_death(tmp_path: Path) -> None:
    path = tmp_path / "x.claim"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)], stdout=subprocess.PIPE, text=True
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with claim(path, wait=False) as ours:
            assert not ours
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait()
    begun = time.monotonic()
    with claim(path, wait=True) as ours:
        assert ours
    assert time.monotonic() - begun < 5


def test_share_work_makes_what_is_missing_and_tells_all(tmp_path: Path) -> None:
    made: list[int] = []
    done: list[int] = []

    def make(item: int) -> None:
        made.append(item)
        (tmp_path / str(item)).touch()

    (tmp_path / "1").touch()
    share_work(
        4,
        path_of=lambda item: tmp_path / str(item),
        make=make,
        claims=tmp_path / "claims",
        done=done.append,
    )
    assert made == [0, 2, 3]
    assert done == [0, 1, 2, 3]


def _append_made(folder: Path, item: int) -> None:
    with open(folder / "made", "a") as stream:
        stream.write(f"{item}\n")
    time.sleep(0.01)
    (folder / str(item)).touch()


def _share(folder: Path) -> None:
    share_work(
        30,
        path_of=lambda item: folder / str(item),
        make=partial(_append_made, folder),
        claims=folder / "claims",
    )


def test_processes_make_every_item_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_share, args=(tmp_path,)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    made = sorted(map(int, (tmp_path / "made").read_text().split()))
    assert made == list(range(30))


@pytest.mark.slow
def test_two_processes_give_the_bytes_of_one(tmp_path: Path) -> None:
    inputs = make_inputs(60)
    alone = mine_negatives(
        inputs.pairs, None, inputs.teacher, inputs.rules, folder=tmp_path / "one", block_pairs=8
    )
    both = mine_on_cores(partial(make_inputs, 60), folder=tmp_path / "two", num_processes=2)
    assert both.path.read_bytes() == alone.path.read_bytes()
    assert (tmp_path / "two/report.json").read_bytes() == (
        tmp_path / "one/report.json"
    ).read_bytes()


def test_at_least_one_process(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="num_processes must be >= 1, got 0"):
        mine_on_cores(partial(make_inputs, 2), folder=tmp_path, num_processes=0)
