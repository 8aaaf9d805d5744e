"""Tells what a file holds: a path in, the name of its format, compression or encoding out."""

from __future__ import annotations

import codecs
from pathlib import Path

from opengte.errors import DataError

HEAD_BYTES = 8192

COMPRESSIONS = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\x28\xb5\x2f\xfd": "zstd"}
"""First bytes of a compressed file; a skippable zstd frame in front is not supported."""

COMPRESSED_SUFFIXES = {".gz": "gzip", ".bz2": "bzip2", ".zst": "zstd"}

BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16 LE, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)

# Tab, line feed, form feed, carriage return, escape (coloured logs) are text.
_CONTROL = bytes(set(range(32)) - {9, 10, 12, 13, 27}) + b"\x7f"


def read_head(path: str | Path) -> bytes:
    """The first bytes of a file, or an error that says why there are none."""
    path = Path(path)
    try:
        with open(path, "rb") as stream:
            return stream.read(HEAD_BYTES)
    except FileNotFoundError:
        raise DataError("no such file", path=path) from None
    except IsADirectoryError:
        raise DataError("a folder, where a file was expected", path=path) from None
    except (OSError, ValueError) as error:
        raise DataError(f"cannot be read: {error}", path=path) from error


def compression_of(head: bytes) -> str | None:
    """``gzip``, ``bzip2``, ``zstd`` or None, by the first bytes and not by the name."""
    for magic, name in COMPRESSIONS.items():
        if head.startswith(magic) and (name != "bzip2" or head[4:10] == b"1AY&SY"):
            return name
    return None


def encoding_of(head: bytes) -> str:
    """The encoding that a byte order mark names; UTF-8 where there is none."""
    for mark, name in BYTE_ORDER_MARKS:
        if head.startswith(mark):
            return name
    return "utf-8"


def is_binary(head: bytes) -> bool:
    """Whether the first bytes are no text: a NUL, or more than a tenth control characters."""
    if encoding_of(head) in ("utf-16", "utf-32"):
        return False
    return b"\0" in head or 10 * (len(head) - len(head.translate(None, _CONTROL))) > len(head)


def suffixes_of(path: str | Path) -> tuple[str, str]:
    """(suffix of the content, suffix of the compression), lower case; ``""`` where none.

    ``pairs.jsonl.zst`` gives ``(".jsonl", ".zst")``.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix in COMPRESSED_SUFFIXES:
        return Path(path.stem).suffix.lower(), suffix
    return suffix, ""


def decode_text(content: bytes, *, path: str | Path) -> str:
    """Decode a whole file: UTF-8, or what its byte order mark says; line ends become line feeds.

    Raises:
        DataError: the bytes are not of that encoding; names the line and the byte offset.
    """
    encoding = encoding_of(content)
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"byte {error.start} (0x{content[error.start]:02X}) is not valid {encoding.upper()}; "
            "convert the file to UTF-8",
            path=path,
            line=line,
        ) from error
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text
