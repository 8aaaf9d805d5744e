"""Whatever is wrong with the files, ``gte data build`` says where, or counts it and goes on."""

from __future__ import annotations

import bz2
import gzip
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import zstandard

from opengte.cli.main import run
from opengte.data.build import build_store
from opengte.data.store import PairStore
from opengte.data.writers import write_pairs
from opengte.errors import StorageError
from opengte.records import Pair

GOOD = [json.dumps({"query": f"question {i}", "positive": f"answer {i}"}) for i in range(6)]


def with_third(line: bytes) -> bytes:
    """Six good lines and, as the third, another."""
    good = [row.encode() for row in GOOD]
    return b"\n".join([*good[:2], line, *good[2:]]) + b"\n"


CASES = {
    "a line of 50 MB": (
        "a.jsonl",
        with_third(b'{"query": "' + b"x" * (50 << 20) + b'", "positive": "p"}'),
        r"a.jsonl:3: the line is longer than 16,777,216 bytes",
        "line too long",
    ),
    "mixed encodings": (
        "a.jsonl",
        with_third('{"query": "Straße", "positive": "p"}'.encode("latin-1")),
        "a.jsonl:3: byte 15 of the line (0xDF) is not valid UTF-8",
        "not UTF-8",
    ),
    "a missing column": (
        "a.jsonl",
        with_third(b'{"query": "q", "text": "p"}'),
        "a.jsonl:3: no field 'positive'; found ['query', 'text']",
        "no field 'positive'",
    ),
    "a missing column of a table": (
        "a.csv",
        b"query,text\nq,p\n",
        "a.csv:2: no field 'positive'; found ['query', 'text']",
        None,
    ),
    "a NaN score": (
        "a.jsonl",
        with_third(b'{"query": "q", "positive": "p", "score": NaN}'),
        "a.jsonl:3: ",
        "not JSON",
    ),
    "a score of text": (
        "a.jsonl",
        with_third(b'{"query": "q", "positive": "p", "score": "nan"}'),
        "a.jsonl:3: field 'score' must be a finite number, got 'nan'",
        "bad score",
    ),
    "a cut line": ("a.jsonl", with_third(b'{"query": "q", "pos'), "a.jsonl:3: not valid JSON",
                   "not JSON"),
    "no object": ("a.jsonl", with_third(b'["q", "p"]'), "a.jsonl:3: expected one JSON object",
                  "not an object"),
    "an empty source": ("a.jsonl", b"", "a.jsonl: ", None),
    "no such format": ("a.xyz", b"\0\1", "a.xyz: ", None),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_build_stops_and_says_where(
    case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name, content, message, _ = CASES[case]
    (tmp_path / name).write_bytes(content)
    code = run(["data", "build", str(tmp_path / name), "--out", str(tmp_path / "out"), "--quiet"])
    told = capsys.readouterr().err
    assert code == 2
    assert message in told
    assert told.startswith("error: ")
    assert len(told.splitlines()) == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("case", [case for case, (*_, reason) in CASES.items() if reason])
def test_a_build_that_skips_counts_the_row_keeps_it_aside_and_loses_no_other(
    case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name, content, _, reason = CASES[case]
    (tmp_path / name).write_bytes(content)
    arguments = ["--out", str(tmp_path / "out"), "--quiet", "--on-bad-row=skip"]
    assert run(["data", "build", str(tmp_path / name), *arguments]) == 0
    told = capsys.readouterr()
    assert "6 pairs of 1 sources" in told.out
    assert f"1  skipped: {reason}" in told.err
    (row,) = (tmp_path / "out/quarantine/a.jsonl").read_text().splitlines()
    assert json.loads(row)["line"] == 3
    store = PairStore(tmp_path / "out")
    assert [pair.query for pair in store.pairs("a")] == [f"question {i}" for i in range(6)]
    assert store.manifest.sources["a"].skipped == {reason: 1}


@pytest.mark.parametrize("how", ["gz", "bz2", "zst"])
def test_a_truncated_file_keeps_what_was_whole(
    how: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [json.dumps({"query": f"question {i}", "positive": f"{i**3}"}) for i in range(30_000)]
    pack = {"gz": gzip.compress, "bz2": bz2.compress, "zst": zstandard.compress}[how]
    packed = pack("\n".join(rows).encode())
    file = tmp_path / f"a.jsonl.{how}"
    file.write_bytes(packed[: len(packed) * 3 // 4])
    build = ["data", "build", str(file), "--out", str(tmp_path / "out")]
    assert run([*build, "--quiet"]) == 2
    assert "stream is truncated" in capsys.readouterr().err
    assert run([*build, "--quiet", "--on-bad-row=skip"]) == 0
    kept = list(PairStore(tmp_path / "out").pairs("a"))
    assert 8_000 < len(kept) < 30_000
    assert [pair.query for pair in kept] == [f"question {i}" for i in range(len(kept))]


def test_columns_can_be_named_where_the_error_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.csv").write_text("query,reply\nwhat is it,a cat\n")
    build = ["data", "build", str(tmp_path / "a.csv"), "--out", str(tmp_path / "out"), "--quiet"]
    assert run(build) == 2
    assert "(--column query=...)" in capsys.readouterr().err
    assert run([*build, "--column", "ask"]) == 2
    assert "give NAME=FIELD, such as query=question" in capsys.readouterr().err
    assert run([*build, "--column", "query=query", "--column", "positive=reply"]) == 0
    assert [pair.positive for pair in PairStore(tmp_path / "out").pairs("a")] == ["a cat"]


def test_a_manifest_whose_hash_does_not_match_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_pairs(tmp_path / "a.jsonl", [Pair("q", "p")])
    build_store([tmp_path / "a.jsonl"], tmp_path / "out", num_workers=1)
    manifest = tmp_path / "out/manifest.json"
    manifest.write_text(manifest.read_text().replace('"retrieval"', '"nli"'))
    for command in ("stats", "head", "verify", "report"):
        assert run(["data", command, str(tmp_path / "out")]) == 2
        assert "does not match its own sha256" in capsys.readouterr().err


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 20 MB; needs the right to mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=20m", "none", str(folder)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("this user may not mount a small file system")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.slow
def test_a_disk_that_is_really_full_loses_nothing_written(
    tmp_path: Path, small_disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [tmp_path / "a.jsonl", tmp_path / "b.jsonl"]
    write_pairs(files[0], [Pair(f"question {i}", "word " * 50) for i in range(40_000)])
    write_pairs(files[1], [Pair(f"more {i}", "word " * 50) for i in range(40_000)])
    options = {"num_workers": 1, "max_shard_bytes": 1 << 20}
    with pytest.raises(StorageError, match="no space left on the device; free some"):
        build_store(files, small_disk / "store", **options)  # type: ignore[arg-type]
    whole = sorted((small_disk / ".store.building/shards").glob("*.arrow"))
    assert len(whole) >= 3
    assert not list(small_disk.rglob("*.tmp"))
    stamps = {path.name: path.stat().st_mtime_ns for path in whole}
    subprocess.run(["mount", "-o", "remount,size=80m", str(small_disk)], check=True)
    built = build_store(files, small_disk / "store", **options)  # type: ignore[arg-type]
    assert built.num_pairs == 80_000
    for name, stamp in stamps.items():
        assert (small_disk / "store/shards" / name).stat().st_mtime_ns == stamp
