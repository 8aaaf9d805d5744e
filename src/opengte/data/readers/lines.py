"""Bounded line reading: a plain, gzip or zstd file in, numbered lines of UTF-8 bytes out.

Memory stays at one chunk and one line, whatever the file holds: a line over the limit is an
error (or a counted skip) before it is read to its end.
"""

from __future__ import annotations

import bz2
import codecs
import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path

from opengte.data.readers.bad_rows import BadRows
from opengte.data.readers.detect import HEAD_BYTES, compression_of, encoding_of, read_head
from opengte.errors import DataError

CHUNK_BYTES = 2**20
MAX_LINE_BYTES = 16 * 2**20
MAX_WHOLE_BYTES = 512 * 2**20


class BrokenStreamError(Exception):
    """A compressed or encoded stream cannot be read further; the message says why."""


def read_lines(
    path: str | Path,
    *,
    bad_rows: BadRows | None = None,
    max_line_bytes: int = MAX_LINE_BYTES,
) -> Iterator[tuple[int, bytes]]:
    """Yield (number from 1, line without its end); blank lines too.

    Compression is told by content. UTF-8 with or without a byte order mark and UTF-16/32 with
    one come out as UTF-8; whether UTF-8 itself is valid is for ``decode_line`` to say.

    Args:
        path: the file.
        bad_rows: stops at (default) or skips a line that is too long or a stream that breaks.
        max_line_bytes: longest line.

    Raises:
        DataError: no such file; a line too long; a truncated or damaged stream (with the line).
    """
    bad_rows = BadRows() if bad_rows is None else bad_rows
    number = 0
    try:
        for number, line in _split(_chunks(path), max_line_bytes):
            if line is None:
                bad_rows.refuse(
                    "line too long",
                    f"the line is longer than {max_line_bytes:,} bytes; one record a line",
                    path=path,
                    line=number,
                )
            else:
                yield number, line
    except BrokenStreamError as error:
        bad_rows.refuse(
            "broken stream", f"{error}; the rest is lost", path=path, line=number + 1, cause=error
        )


def decode_line(line: bytes) -> str:
    """The line as text.

    Raises:
        ValueError: names the first byte that is not UTF-8, counted from 0 in the line.
    """
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"byte {error.start} of the line (0x{line[error.start]:02X}) is not valid UTF-8"
        ) from error


def read_chunks(path: str | Path) -> Iterator[bytes]:
    """The decompressed content in chunks of bounded size.

    Raises:
        DataError: the file cannot be opened.
        BrokenStreamError: a compressed stream is truncated or damaged.
    """
    compression = compression_of(read_head(path))
    if compression == "gzip":
        yield from _gzip_chunks(path)
    elif compression == "bzip2":
        yield from _bzip2_chunks(path)
    elif compression == "zstd":
        yield from _zstd_chunks(path)
    else:
        with open(path, "rb") as stream:
            while chunk := stream.read(CHUNK_BYTES):
                yield chunk


def read_whole(path: str | Path, *, max_bytes: int = MAX_WHOLE_BYTES) -> bytes:
    """The decompressed content of a file whose format needs it whole.

    Raises:
        DataError: the file cannot be read, is damaged, or holds more than ``max_bytes``.
    """
    parts: list[bytes] = []
    size = 0
    try:
        for chunk in read_chunks(path):
            parts.append(chunk)
            size += len(chunk)
            if size > max_bytes:
                raise DataError(
                    f"holds more than {max_bytes:,} bytes; split it, or use one record a line",
                    path=path,
                )
    except BrokenStreamError as error:
        raise DataError(str(error), path=path) from error
    return b"".join(parts)


def first_bytes(path: str | Path, number: int) -> bytes:
    """The first decompressed bytes of a file, fewer where it is shorter or breaks."""
    head = b""
    try:
        for chunk in read_chunks(path):
            head += chunk
            if len(head) >= number:
                break
    except BrokenStreamError:
        pass  # whoever reads on from the start meets it again, with its line
    return head[:number]


def _gzip_chunks(path: str | Path) -> Iterator[bytes]:
    with gzip.open(path, "rb") as stream:
        yield from _gathered(stream, "gzip")


def _bzip2_chunks(path: str | Path) -> Iterator[bytes]:
    with bz2.open(path, "rb") as stream:
        yield from _gathered(stream, "bzip2")


def _gathered(stream: gzip.GzipFile | bz2.BZ2File, name: str) -> Iterator[bytes]:
    """Chunks of about a megabyte; where the stream breaks, first what came before."""
    parts: list[bytes] = []
    size = 0
    problem: BrokenStreamError | None = None
    while True:
        try:
            part = stream.read1(CHUNK_BYTES)  # read() would lose what it had when it fails
        except EOFError as error:
            part, problem = b"", BrokenStreamError(f"the {name} stream is truncated")
            problem.__cause__ = error
        except (OSError, zlib.error) as error:
            part, problem = b"", BrokenStreamError(f"the {name} stream is damaged ({error})")
            problem.__cause__ = error
        parts.append(part)
        size += len(part)
        if size >= CHUNK_BYTES or (size and not part):
            yield b"".join(parts)
            parts, size = [], 0
        if problem is not None:
            raise problem
        if not part:
            return


def _zstd_chunks(path: str | Path) -> Iterator[bytes]:
    # Arrow's decompressor, unlike zstandard's reader, tells a truncated frame from a whole one,
    # and bounds what one read gives back.
    import pyarrow as pa

    with pa.CompressedInputStream(pa.OSFile(str(path)), "zstd") as stream:
        while True:
            try:
                chunk = stream.read(CHUNK_BYTES)
            except OSError as error:
                truncated = "runcated" in str(error)
                what = "is truncated" if truncated else f"is damaged ({error})"
                raise BrokenStreamError(f"the zstd stream {what}") from error
            if not chunk:
                return
            yield chunk


def _chunks(path: str | Path) -> Iterator[bytes]:
    """Decompressed chunks as UTF-8 without a byte order mark."""
    chunks = read_chunks(path)
    head = b""
    for chunk in chunks:
        head += chunk
        if len(head) >= 4:
            break
    encoding = encoding_of(head[:HEAD_BYTES])
    if encoding == "utf-8":
        yield head
        yield from chunks
    elif encoding == "utf-8-sig":
        yield head.removeprefix(codecs.BOM_UTF8)
        yield from chunks
    else:
        yield from _as_utf8(encoding, head, chunks)


def _as_utf8(encoding: str, head: bytes, chunks: Iterator[bytes]) -> Iterator[bytes]:
    decoder = codecs.getincrementaldecoder(encoding)()
    try:
        yield decoder.decode(head).encode("utf-8")
        for chunk in chunks:
            yield decoder.decode(chunk).encode("utf-8")
        yield decoder.decode(b"", final=True).encode("utf-8")
    except UnicodeError as error:
        raise BrokenStreamError(f"not valid {encoding.upper()} ({error})") from error


def _split(chunks: Iterator[bytes], limit: int) -> Iterator[tuple[int, bytes | None]]:
    """Cut chunks at line feeds; a line over ``limit`` comes out as None, once."""
    number = 1
    carry: list[bytes] = []
    carried = 0
    too_long = False
    for chunk in chunks:
        pieces = chunk.split(b"\n")
        rest = pieces.pop()
        for piece in pieces:
            line = b"".join((*carry, piece)) if carry else piece
            if not too_long:
                yield number, (line if len(line) <= limit else None)
            carry, carried, too_long = [], 0, False
            number += 1
        carry.append(rest)
        carried += len(rest)
        if carried > limit and not too_long:
            yield number, None
            too_long = True
        if too_long:
            carry = []
    if carried and not too_long:
        yield number, b"".join(carry)
