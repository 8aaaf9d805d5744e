from __future__ import annotations

import gzip
import tracemalloc
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from opengte.data.readers.bad_rows import BadRows
from opengte.data.readers.detect import decode_text, is_binary
from opengte.data.readers.lines import read_lines
from opengte.data.readers.report import ReadReport
from opengte.errors import DataError


def compress(content: bytes, how: str) -> bytes:
    if how == "gz":
        return gzip.compress(content)
    return (
        zstandard.ZstdCompressor(write_checksum=True).compress(content) if how == "zst" else content
    )


@pytest.mark.parametrize("how", ["plain", "gz", "zst"])
def test_lines_are_those_of_split_whatever_the_compression(how: str, tmp_path: Path) -> None:
    content = b"".join(b"line %d %s\n" % (n, b"x" * (n % 977)) for n in range(5000)) + b"last"
    path = tmp_path / "file"
    path.write_bytes(compress(content, how))
    numbers, lines = zip(*read_lines(path), strict=True)
    assert list(lines) == content.split(b"\n")
    assert list(numbers) == list(range(1, 5002))


@settings(deadline=None)
@given(st.lists(st.text(st.characters(exclude_characters="\0\n\r", exclude_categories=["Cs"]))))
def test_utf16_reads_as_utf8(texts: list[str]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        path.write_bytes("\n".join(texts).encode("utf-16"))
        lines = [line.decode("utf-8") for _, line in read_lines(path)]
    while texts and texts[-1] == "" and len(lines) < len(texts):
        texts = texts[:-1]
    assert lines == texts


def test_byte_order_mark_is_no_part_of_the_first_line(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"\xef\xbb\xbffirst\r\nsecond\n")
    assert [line.strip() for _, line in read_lines(path)] == [b"first", b"second"]


def test_line_too_long_names_file_and_line_without_reading_it_whole(tmp_path: Path) -> None:
    path = tmp_path / "long.jsonl"
    with open(path, "wb") as stream:
        stream.write(b"short\n")
        for _ in range(40):
            stream.write(b"x" * 2**20)
    tracemalloc.start()
    with pytest.raises(DataError, match=r"long\.jsonl:2: the line is longer than 4,194,304 bytes"):
        list(read_lines(path, max_line_bytes=4 * 2**20))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16 * 2**20


def test_decompression_bomb_stays_bounded(tmp_path: Path) -> None:
    path = tmp_path / "bomb.gz"
    path.write_bytes(gzip.compress(b"\0" * (64 * 2**20)))
    tracemalloc.start()
    with pytest.raises(DataError, match="longer than"):
        list(read_lines(path, max_line_bytes=2**20))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16 * 2**20


def test_skipped_long_line_leaves_the_lines_around_it(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"one\n" + b"x" * 5000 + b"\nthree\n" + b"y" * 5000)
    rows = BadRows("skip")
    lines = list(read_lines(path, bad_rows=rows, max_line_bytes=100))
    assert lines == [(1, b"one"), (3, b"three")]
    assert rows.report.skipped["line too long"] == 2
    assert rows.report.examples["line too long"][0].startswith(f"{path}:2 ")


@pytest.mark.parametrize("how", ["gz", "zst"])
def test_truncated_stream_names_file_and_line(how: str, tmp_path: Path) -> None:
    import random

    letters = random.Random(0).choices("abcdefghijklmnop", k=3_000_000)
    content = b"\n".join("".join(letters[i : i + 100]).encode() for i in range(0, 3_000_000, 100))
    path = tmp_path / f"pairs.jsonl.{how}"
    whole = compress(content, how)
    path.write_bytes(whole[: len(whole) - 20])
    seen = []
    with pytest.raises(DataError, match=rf"pairs\.jsonl\.{how}:\d+: the \w+ stream is truncated"):
        seen.extend(read_lines(path))
    rows = BadRows("skip")
    assert len(list(read_lines(path, bad_rows=rows))) > 20_000
    assert rows.report.skipped["broken stream"] == 1


@pytest.mark.parametrize("how", ["gz", "zst"])
def test_damaged_stream_is_a_data_error(how: str, tmp_path: Path) -> None:
    whole = bytearray(compress(bytes(range(256)) * 4000, how))
    whole[len(whole) // 2] ^= 0xFF
    whole[len(whole) // 2 + 1] ^= 0xFF
    path = tmp_path / "file"
    path.write_bytes(bytes(whole))
    with pytest.raises(DataError, match=r"stream is (damaged|truncated)"):
        list(read_lines(path))


def test_missing_file_and_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere: no such file"):
        list(read_lines(tmp_path / "nowhere"))
    with pytest.raises(DataError, match="a folder, where a file was expected"):
        list(read_lines(tmp_path))


def test_invalid_utf8_names_line_and_byte(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"notes\.txt:2: byte 8 \(0xFF\) is not valid UTF-8"):
        decode_text(b"first\nse\xffcond", path="notes.txt")


def test_binary_is_told_from_text() -> None:
    assert is_binary(b"\x7fELF\x02\x01\x01\0\0")
    assert not is_binary("ein Text, 一段文字\n\tund \x1b[1mFarbe".encode())
    assert not is_binary("abc".encode("utf-16"))
    assert not is_binary(b"")


def test_report_merges_counts_and_keeps_the_first_examples() -> None:
    first, second = ReadReport(max_examples=2), ReadReport(max_examples=2)
    first.skip("binary", path="a")
    for name in "bcd":
        second.skip("binary", path=name, line=3, detail="why")
    second.count("pairs", 7)
    first.merge(second)
    assert first.skipped["binary"] == 4
    assert first.examples["binary"] == ["a", "b:3 (why)"]
    assert str(first) == "read 7 pairs\nskipped 4: binary, e.g. a"
    assert first.summary()["read"] == {"pairs": 7}
