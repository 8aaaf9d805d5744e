"""The store holds what was given, tells when it was altered, and is built through any kill."""

from __future__ import annotations

import errno
import gzip
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opengte import atomic
from opengte.data import source_build
from opengte.data.build import append_to_store, build_store
from opengte.data.manifest import SourceFacts
from opengte.data.mixture import Mixture, MixtureConfig, Source
from opengte.data.negatives import add_negatives
from opengte.data.pair_rows import PairRows
from opengte.data.readers import read_pairs
from opengte.data.source_build import name_of_source
from opengte.data.store import PairStore, describe_source, export_store, verify_store
from opengte.data.writers import write_pairs
from opengte.errors import ConfigError, DataError, StorageError
from opengte.records import Pair

TEXT = st.text(min_size=1, max_size=20).filter(lambda text: not text.isspace())
PAIRS = st.builds(
    Pair,
    query=TEXT,
    positive=TEXT,
    negatives=st.lists(TEXT, max_size=3).map(tuple),
    score=st.none() | st.floats(0, 1),
    group=st.sampled_from(["", "package"]),
    kind=st.sampled_from(["", "docstring-code"]),
    origin=st.just("somewhere:3"),
)


def some_pairs(number: int, name: str = "a") -> list[Pair]:
    return [
        Pair(
            f"{name} asks {i}",
            f"{name} answers {i}",
            negatives=(f"wrong {i}",) if i % 3 == 0 else (),
            score=[None, 0.0, 0.5][i % 3],
        )
        for i in range(number)
    ]


def files(folder: Path, **sizes: int) -> list[Path]:
    folder.mkdir(exist_ok=True)
    for name, size in sizes.items():
        write_pairs(folder / f"{name}.jsonl", some_pairs(size, name))
    return [folder / f"{name}.jsonl" for name in sizes]


def content(store: Path) -> dict[str, bytes]:
    return {
        file.relative_to(store).as_posix(): file.read_bytes()
        for file in sorted(store.rglob("*"))
        if file.is_file()
    }


def test_a_store_gives_back_every_pair_of_every_file(tmp_path: Path) -> None:
    paths = files(tmp_path, a=700, b=40)
    result = build_store(paths, tmp_path / "store", num_workers=1, max_shard_bytes=20_000)
    assert (result.num_pairs, result.num_sources) == (740, 2)
    store = PairStore(tmp_path / "store")
    assert store.names == ("a", "b")
    for path in paths:
        assert list(store.pairs(path.stem)) == list(read_pairs(path))
    assert store.head(2)["b"] == list(read_pairs(paths[1]))[:2]
    assert verify_store(tmp_path / "store") > 0
    assert not list(tmp_path.glob(".store*"))


@settings(deadline=None, max_examples=40)
@given(pairs=st.lists(PAIRS, min_size=1, max_size=30))
def test_pairs_survive_arrow_columns(pairs: list[Pair]) -> None:
    rows = PairRows.from_pairs(pairs)
    assert list(rows.pairs()) == pairs
    order = np.random.default_rng(0).permutation(len(pairs))
    assert list(rows.pairs(order)) == [pairs[i] for i in order.tolist()]
    taken = rows.take(order)
    assert taken.queries == [pairs[i].query for i in order.tolist()]


@settings(deadline=None, max_examples=25)
@given(pairs=st.lists(PAIRS, min_size=1, max_size=30))
def test_files_and_stores_round_trip(pairs: list[Pair], tmp_path_factory: Any) -> None:
    folder = tmp_path_factory.mktemp("round")
    write_pairs(folder / "x.jsonl", pairs)
    build_store([folder / "x.jsonl"], folder / "store", num_workers=1)
    assert list(PairStore(folder / "store").pairs("x")) == pairs
    export_store(folder / "store", folder / "out", suffix=".jsonl.gz")
    assert list(read_pairs(folder / "out" / "x.jsonl.gz")) == pairs


def test_rows_of_many_shards_are_taken_in_the_order_asked(tmp_path: Path) -> None:
    (path,) = files(tmp_path, a=3000)
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for i, row in enumerate(rows):
        row["positive"] += " text" * (40 if i % 5 else 4000)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    build_store([path], tmp_path / "store", num_workers=1, max_shard_bytes=1 << 20)
    store = PairStore(tmp_path / "store")
    assert len(store.manifest.sources["a"].shards) > 3
    whole = list(read_pairs(path))
    asked = np.random.default_rng(1).integers(0, 3000, 500)
    assert list(store.rows("a").pairs(asked)) == [whole[i] for i in asked.tolist()]
    assert store.rows("a").take(asked).positives == [whole[i].positive for i in asked.tolist()]
    hashes = store.rows("a").numbers("query_hash")
    assert store.rows("a").numbers("query_hash", asked).tolist() == hashes[asked].tolist()


def test_counts_and_lengths_are_in_the_manifest(tmp_path: Path) -> None:
    pairs = [*some_pairs(30), Pair("same", "Same "), Pair("one two", "three " * 300)]
    write_pairs(tmp_path / "a.jsonl", pairs)
    build_store([tmp_path / "a.jsonl"], tmp_path / "store", num_workers=1)
    stats = PairStore(tmp_path / "store").stats()
    assert stats["num_pairs"] == 32
    source = stats["sources"]["a"]
    counts = {name: source[name] for name in source if name.startswith("num_")}
    del counts["num_bytes"]
    assert counts == {
        "num_pairs": 32,
        "num_matching": 21,
        "num_negative": 10,
        "num_same_sides": 1,
        "num_with_score": 20,
        "num_with_negatives": 10,
    }
    entry = PairStore(tmp_path / "store").manifest.sources["a"]
    assert entry.positive.longest == 300
    assert entry.positive.longer_than["256"] == 1
    assert entry.query.num_tokens == 30 * 3 + 1 + 2
    assert entry.inputs[0].file == "a.jsonl"


def test_a_store_gives_the_batches_of_its_pairs_in_memory(tmp_path: Path) -> None:
    paths = files(tmp_path, a=500, b=90)
    build_store(paths, tmp_path / "store", num_workers=1, max_shard_bytes=10_000)
    stored = Mixture(PairStore(tmp_path / "store").sources(), MixtureConfig(batch_size=32))
    held = Mixture(
        [Source.from_pairs(path.stem, read_pairs(path)) for path in paths],
        MixtureConfig(batch_size=32),
    )
    for step in (0, 7, 10_000_000):
        one, two = stored.batch(step), held.batch(step)
        assert one.queries == two.queries
        assert one.negatives == two.negatives
        assert one.row_ids.tolist() == two.row_ids.tolist()
        assert one.num_skipped == two.num_skipped
    scores = store_scores(tmp_path / "store", "a")
    rows = {row for step in range(40) for row in stored.batch(step).row_ids.tolist()}
    assert not any(scores[row] == 0 for row in rows)


def store_scores(store: Path, name: str) -> list[float | None]:
    return [pair.score for pair in PairStore(store).pairs(name)]


def test_parallel_and_serial_builds_are_the_same(tmp_path: Path) -> None:
    paths = files(tmp_path, a=300, b=200, c=5)
    seen: list[tuple[int, int | None]] = []
    build_store(paths, tmp_path / "one", num_workers=1, progress=lambda *p: seen.append(p))
    build_store(paths[::-1], tmp_path / "two", num_workers=2)
    assert content(tmp_path / "one") == content(tmp_path / "two")
    total = sum(path.stat().st_size for path in paths)
    assert seen[-1] == (total, total)


class DiskFull(Exception):
    pass


@pytest.mark.parametrize("fail_at", range(1, 5))
def test_a_build_that_was_cut_off_goes_on_and_ends_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fail_at: int
) -> None:
    paths = files(tmp_path, a=40_000, b=400)
    paths[0].write_text(paths[0].read_text() + "broken\n" + paths[1].read_text())
    options: dict[str, Any] = {"num_workers": 1, "on_bad_row": "skip", "max_shard_bytes": 1 << 20}
    build_store(paths, tmp_path / "straight", **options)
    calls, write_shard = 0, source_build.write_shard

    def failing(*args: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == fail_at:
            raise DiskFull
        return write_shard(*args)

    monkeypatch.setattr(source_build, "write_shard", failing)
    with pytest.raises(DiskFull):
        build_store(paths, tmp_path / "store", **options)
    assert not (tmp_path / "store").exists()
    result = build_store(paths, tmp_path / "store", **options)
    shards = PairStore(tmp_path / "store").manifest.sources
    assert calls == sum(len(entry.shards) for entry in shards.values()) + 1
    assert content(tmp_path / "store") == content(tmp_path / "straight")
    assert result.report.skipped["not JSON"] == 1


SCRIPT = """
import sys
from opengte.data.build import build_store
build_store(sys.argv[2:], sys.argv[1], num_workers=1, max_shard_bytes=1 << 18)
"""


def test_a_build_killed_with_sigkill_goes_on(tmp_path: Path) -> None:
    paths = files(tmp_path, a=60_000, b=20)
    build_store(paths, tmp_path / "straight", num_workers=1, max_shard_bytes=1 << 18)
    command = [sys.executable, "-c", SCRIPT, str(tmp_path / "store"), *map(str, paths)]
    process = subprocess.Popen(command)
    building = tmp_path / ".store.building"
    deadline = time.time() + 60
    while not list(building.glob("parts/a.json")) and process.poll() is None:
        assert time.time() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "store").exists()
    kept = {file.name: file.stat().st_mtime_ns for file in building.glob("shards/*.arrow")}
    assert kept
    build_store(paths, tmp_path / "store", num_workers=1, max_shard_bytes=1 << 18)
    assert content(tmp_path / "store") == content(tmp_path / "straight")
    done = json.loads((tmp_path / "store" / "manifest.json").read_text())["sources"]["a"]["shards"]
    names = [Path(shard["file"]).name for shard in done]
    again = [(tmp_path / "store" / "shards" / name).stat().st_mtime_ns for name in names]
    assert sum(kept.get(name) == stamp for name, stamp in zip(names, again, strict=True)) >= 1


def test_a_full_disk_is_said_and_nothing_written_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = files(tmp_path, a=400, b=40)
    replace, calls = os.replace, 0

    def full(*args: Any, **kwargs: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise OSError(errno.ENOSPC, "No space left on device")
        replace(*args, **kwargs)

    monkeypatch.setattr(atomic.os, "replace", full)
    with pytest.raises(StorageError, match="no space left on the device; free some and run"):
        build_store(paths, tmp_path / "store", num_workers=1)
    assert not (tmp_path / "store").exists()
    assert not list(tmp_path.rglob("*.tmp"))
    assert (tmp_path / ".store.building" / "shards" / "a-00000.arrow").exists()
    build_store(paths, tmp_path / "store", num_workers=1)
    assert PairStore(tmp_path / "store").num_pairs == 440


def test_a_changed_file_is_read_anew_on_resume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = files(tmp_path, a=50, b=10)
    paths[1].write_text("broken")
    with pytest.raises(DataError, match=r"b\.jsonl:1: not valid JSON"):
        build_store(paths, tmp_path / "store", num_workers=1)
    write_pairs(paths[0], some_pairs(60))
    write_pairs(paths[1], some_pairs(7))
    assert build_store(paths, tmp_path / "store", num_workers=1).num_pairs == 67


def test_bad_rows_are_counted_and_quarantined(tmp_path: Path) -> None:
    good = json.dumps({"query": "q", "positive": "p"})
    bad = ['{"query": "q"}', '{"query": "q", "positive": "p", "score": NaN}', "{", "[]"]
    bad.append('{"query": "q", "positive": "p", "score": 7}')
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join([good, *bad, good]))
    empty = tmp_path / "empty.jsonl"
    empty.write_text("")
    result = build_store([path, empty], tmp_path / "store", num_workers=1, on_bad_row="skip")
    assert (result.num_pairs, result.num_sources) == (2, 1)
    assert result.report.num_skipped == 6
    assert result.report.skipped["empty source"] == 1
    assert result.quarantine is not None
    rows = [json.loads(line) for line in (result.quarantine / "a.jsonl").read_text().splitlines()]
    assert [(row["line"], row["row"]) for row in rows] == list(enumerate(bad, start=2))
    skipped = PairStore(tmp_path / "store").manifest.sources["a"].skipped
    assert skipped == Counter(row["reason"] for row in rows)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ('{"query": "q", "answer": "p"}', r"a\.jsonl:2: no field 'positive'"),
        ('{"query": "q", "positive": "p", "score": NaN}', r"a\.jsonl:2: .*NaN"),
        ('{"query": "q", "positive": "p", "score": 7}', r"a\.jsonl:2: field 'score' must lie in"),
        ('{"query": "q", "positive": " "}', r"a\.jsonl:2: field 'positive' is blank"),
        ('{"query": "q", "positive": 3}', r"a\.jsonl:2: field 'positive' must be a text"),
        ('{"query": "q", "positive": "p', r"a\.jsonl:2: not valid JSON"),
        (b'{"query": "q\xff", "positive": "p"}', r"a\.jsonl:2: byte 12 .* not valid UTF-8"),
        (b'{"query": "' + b"q" * (17 << 20) + b'"}', r"a\.jsonl:2: the line is longer than"),
        (
            '{"query": "q", "positive": "p", "negatives": ["n"], "negative_scores": [1, 2]}',
            r"a\.jsonl:2: 2 negative_scores for 1 negatives",
        ),
    ],
)
def test_a_bad_row_names_file_and_line(tmp_path: Path, row: str | bytes, message: str) -> None:
    line = row.encode() if isinstance(row, str) else row
    (tmp_path / "a.jsonl").write_bytes(b'{"query": "q", "positive": "p"}\n' + line + b"\n")
    with pytest.raises(DataError, match=message):
        build_store([tmp_path / "a.jsonl"], tmp_path / "store", num_workers=1)
    assert not (tmp_path / "store").exists()


def test_a_truncated_gz_names_the_line(tmp_path: Path) -> None:
    lines = "".join(
        json.dumps({"query": f"q{i}", "positive": f"p{i}"}) + "\n" for i in range(99_999)
    )
    packed = gzip.compress(lines.encode())
    (tmp_path / "a.jsonl.gz").write_bytes(packed[: len(packed) // 2])
    with pytest.raises(DataError, match=r"a\.jsonl\.gz:\d+: the gzip stream is truncated"):
        build_store([tmp_path / "a.jsonl.gz"], tmp_path / "store", num_workers=1)
    result = build_store(
        [tmp_path / "a.jsonl.gz"], tmp_path / "store", num_workers=1, on_bad_row="skip"
    )
    assert 10_000 < result.num_pairs < 99_999
    assert result.report.skipped["broken stream"] == 1


def test_errors_come_whole_out_of_worker_processes(tmp_path: Path) -> None:
    paths = files(tmp_path, a=5, b=5)
    paths[1].write_text("{")
    with pytest.raises(DataError, match=r"b\.jsonl:1: not valid JSON") as caught:
        build_store(paths, tmp_path / "store", num_workers=2)
    assert caught.value.line == 1


def test_what_cannot_be_built_is_refused(tmp_path: Path) -> None:
    (path,) = files(tmp_path, a=5)
    other = files(tmp_path / "more", a=5)[0]
    out = tmp_path / "store"
    with pytest.raises(DataError, match="no pair files were given"):
        build_store([], out)
    with pytest.raises(DataError, match=r"nothing\.jsonl: no such file"):
        build_store([tmp_path / "nothing.jsonl"], out)
    with pytest.raises(DataError, match="two files make one source 'a'"):
        build_store([path, other], out)
    with pytest.raises(ConfigError, match="facts name 'b', which no file is called"):
        build_store([path], out, facts={"b": SourceFacts()})
    with pytest.raises(ConfigError, match="num_workers must be >= 1, got 0"):
        build_store([path], out, num_workers=0)
    (tmp_path / "empty.jsonl").write_text("\n\n")
    with pytest.raises(DataError, match=r"empty\.jsonl: holds no pairs: it is empty"):
        build_store([path, tmp_path / "empty.jsonl"], out, num_workers=1)
    with pytest.raises(DataError, match="none of the 1 files holds a pair that can be used"):
        build_store([tmp_path / "empty.jsonl"], tmp_path / "other", on_bad_row="skip")
    build_store([path], out, num_workers=1)
    with pytest.raises(DataError, match="exists already; choose another --out"):
        build_store([path], out)


def test_two_builds_of_one_store_do_not_mix(tmp_path: Path) -> None:
    import fcntl

    (path,) = files(tmp_path, a=5)
    building = tmp_path / ".store.building"
    building.mkdir()
    with open(building / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(DataError, match="another build of this store is under way"):
            build_store([path], tmp_path / "store", num_workers=1)


def test_append_adds_sources_and_leaves_the_others(tmp_path: Path) -> None:
    a, b, c = files(tmp_path, a=50, b=20, c=30)
    build_store([a, b], tmp_path / "store", num_workers=1)
    before = content(tmp_path / "store")
    result = append_to_store(tmp_path / "store", [c], num_workers=1)
    assert (result.num_pairs, result.num_sources) == (100, 3)
    after = content(tmp_path / "store")
    assert all(after[name] == value for name, value in before.items() if name != "manifest.json")
    build_store([a, b, c], tmp_path / "all", num_workers=1)
    assert content(tmp_path / "all") == after
    assert not list(tmp_path.glob(".store*"))
    with pytest.raises(DataError, match="the store has a source 'c' already"):
        append_to_store(tmp_path / "store", [c])


def test_append_cut_off_before_the_manifest_leaves_the_store_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = files(tmp_path, a=50, b=20)
    build_store([a], tmp_path / "store", num_workers=1)
    monkeypatch.setattr("opengte.data.build._link", raise_disk_full)
    with pytest.raises(DiskFull):
        append_to_store(tmp_path / "store", [b], num_workers=1)
    assert PairStore(tmp_path / "store").names == ("a",)
    monkeypatch.undo()
    append_to_store(tmp_path / "store", [b], num_workers=1)
    assert verify_store(tmp_path / "store")
    assert PairStore(tmp_path / "store").names == ("a", "b")


def raise_disk_full(*args: object) -> None:
    raise DiskFull


def test_facts_reach_the_sources_and_can_be_changed(tmp_path: Path) -> None:
    (path,) = files(tmp_path, a=30)
    facts = SourceFacts(task="sts", symmetric=True, licence="CC0", query_prompt="q: ")
    build_store([path], tmp_path / "store", num_workers=1, facts={"a": facts})
    source = PairStore(tmp_path / "store").source("a", in_batch_negatives=False)
    assert (source.task, source.symmetric, source.query_prompt) == ("sts", True, "q: ")
    assert not source.in_batch_negatives
    describe_source(tmp_path / "store", "a", task="nli")
    assert PairStore(tmp_path / "store").source("a").task == "nli"
    assert PairStore(tmp_path / "store").stats()["sources"]["a"]["licence"] == "CC0"
    with pytest.raises(DataError, match=r"no such fact among \['colour'\]; there are: task,"):
        describe_source(tmp_path / "store", "a", colour="red")
    with pytest.raises(DataError, match="no source 'b'; the store has: a"):
        describe_source(tmp_path / "store", "b", task="nli")


def damaged(store: Path, what: str) -> Path:
    shard = store / "shards" / "a-00000.arrow"
    if what == "manifest":
        text = (store / "manifest.json").read_text()
        (store / "manifest.json").write_text(text.replace('"num_pairs": 50', '"num_pairs": 51', 1))
    elif what == "version":
        text = (store / "manifest.json").read_text()
        (store / "manifest.json").write_text(text.replace('"version": 1', '"version": 9'))
    elif what == "no json":
        (store / "manifest.json").write_text("{")
    elif what == "missing":
        shard.unlink()
    elif what == "short":
        shard.write_bytes(shard.read_bytes()[:-1])
    elif what == "garbage":
        shard.write_bytes(bytes(shard.stat().st_size))
    elif what == "rows":
        (store / "rows" / "a.npy").write_bytes(b"")
    return store


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("manifest", r"manifest\.json: the manifest does not match its own sha256"),
        ("version", r"manifest\.json: version 9 of the store is not known here"),
        ("no json", r"manifest\.json: not valid JSON"),
        ("missing", r"a-00000\.arrow: a shard of the store is missing"),
        ("short", r"a-00000\.arrow: the shard has [\d,]+ bytes where the manifest says"),
        ("garbage", r"a-00000\.arrow: the shard is damaged"),
        ("rows", r"a\.npy: row numbers of the store cannot be read"),
    ],
)
def test_a_damaged_store_is_told_when_it_is_opened(tmp_path: Path, what: str, message: str) -> None:
    build_store(files(tmp_path, a=50), tmp_path / "store", num_workers=1)
    with pytest.raises(DataError, match=message):
        PairStore(damaged(tmp_path / "store", what)).sources()


def test_verify_finds_a_changed_byte(tmp_path: Path) -> None:
    build_store(files(tmp_path, a=50), tmp_path / "store", num_workers=1)
    shard = tmp_path / "store" / "shards" / "a-00000.arrow"
    shard.write_bytes(shard.read_bytes().replace(b"asks 17", b"asks 71"))
    PairStore(tmp_path / "store")
    with pytest.raises(DataError, match=r"a-00000\.arrow: the content does not match the manifest"):
        verify_store(tmp_path / "store")


def test_a_folder_without_manifest_is_no_store(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"not a pair store: it has no manifest\.json"):
        PairStore(tmp_path)


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("stsb_train.jsonl.zst", "stsb_train"),
        ("v1.5-data.jsonl", "v1.5-data"),
        ("A.CSV.gz", "A"),
        ("plain", "plain"),
    ],
)
def test_sources_are_named_by_the_file_without_its_endings(file: str, name: str) -> None:
    assert name_of_source(f"some/{file}") == name


def test_refreshed_negatives_hold_from_their_step_on(tmp_path: Path) -> None:
    (path,) = files(tmp_path, a=20)
    build_store([path], tmp_path / "store", num_workers=1)
    config = MixtureConfig(batch_size=32)
    before = Mixture(PairStore(tmp_path / "store").sources(), config)
    add_negatives(tmp_path / "store", "a", [6, 3], [["new 6"], ["new 3", "more"]], valid_from=2)
    add_negatives(tmp_path / "store", "a", [3], [["newest 3"]], valid_from=5)
    after = Mixture(PairStore(tmp_path / "store").sources(), config)
    assert after.fingerprint == before.fingerprint

    def negatives(mixture: Mixture, step: int) -> dict[int, tuple[str, ...]]:
        batch = mixture.batch(step)
        return dict(zip(batch.row_ids.tolist(), batch.negatives, strict=True))

    for step in (0, 1):
        assert negatives(after, step) == negatives(before, step)
    assert negatives(after, 2) == {**negatives(before, 2), 6: ("new 6",), 3: ("new 3", "more")}
    assert negatives(after, 5) == {**negatives(before, 5), 6: ("new 6",), 3: ("newest 3",)}
    assert verify_store(tmp_path / "store")
    with pytest.raises(ConfigError, match="negatives valid from step 4 would change batches"):
        add_negatives(tmp_path / "store", "a", [1], [["x"]], valid_from=4)
    with pytest.raises(DataError, match="no source 'b' to give negatives to"):
        add_negatives(tmp_path / "store", "b", [1], [["x"]], valid_from=9)
    with pytest.raises(DataError, match=r"rows must lie in \[0, 20\), got 20\.\.20"):
        add_negatives(tmp_path / "store", "a", [20], [["x"]], valid_from=9)
    with pytest.raises(DataError, match="2 rows but 1 lists of negatives"):
        add_negatives(tmp_path / "store", "a", [1, 2], [["x"]], valid_from=9)
    with pytest.raises(DataError, match="a row stands twice"):
        add_negatives(tmp_path / "store", "a", [1, 1], [["x"], ["y"]], valid_from=9)


def test_negatives_from_the_first_step_are_another_mixture(tmp_path: Path) -> None:
    build_store(files(tmp_path, a=20), tmp_path / "store", num_workers=1)
    before = Mixture(PairStore(tmp_path / "store").sources(), MixtureConfig())
    add_negatives(tmp_path / "store", "a", [0], [["x"]], valid_from=0)
    after = Mixture(PairStore(tmp_path / "store").sources(), MixtureConfig())
    assert before.fingerprint != after.fingerprint


@pytest.mark.slow
@pytest.mark.shared
def test_the_shared_pairs_are_71_sources_and_1851604_pairs(
    shared_data: Path, tmp_path: Path
) -> None:
    result = build_store(sorted((shared_data / "pairs").glob("*.jsonl.zst")), tmp_path / "store")
    assert (result.num_sources, result.num_pairs) == (71, 1_851_604)
    assert not result.report.num_skipped
    store = PairStore(tmp_path / "store")
    for name in ("simclue", "opentriviaqa", "stsb_train", "zh_poetry_title"):
        assert list(store.pairs(name)) == list(
            read_pairs(shared_data / "pairs" / f"{name}.jsonl.zst")
        )
    shutil.rmtree(tmp_path / "store")
