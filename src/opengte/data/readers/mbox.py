"""Mailboxes (mbox) to (subject, body) of first messages and (message, reply)."""

from __future__ import annotations

import email
import re
from collections.abc import Iterator
from email.header import decode_header, make_header
from email.message import Message
from pathlib import Path

from opengte.data.readers.bad_rows import BadRows
from opengte.data.readers.git_log import TRAILER
from opengte.data.readers.html_text import html_text
from opengte.data.readers.lines import read_lines
from opengte.data.readers.sections import num_words
from opengte.records import Pair

MIN_WORDS = 5
MAX_MESSAGE_BYTES = 8 * 2**20
MAX_KEPT_CHARACTERS = 4000

_REPLY = re.compile(r"\s*(?:re|aw|antw|sv|fwd?|wg)(?:\[\d+\])?\s*:\s*", re.IGNORECASE)
_TAG = re.compile(r"\s*\[[^\[\]]{1,40}\]\s*")
_WROTE = re.compile(
    r".{0,200}(?:wrote|writes|schrieb|a écrit|escribió)\s*:\s*$|-+ ?original message"
)
_PATCH = ("diff --git ", "Index: ", "--- a/", "*** a/")
_ID = re.compile(r"<[^<>\s]+>")


def read_mbox(path: Path, bad_rows: BadRows) -> Iterator[Pair]:
    """Yield the pairs of a mailbox in its order; quotes and signatures are cut.

    A reply is paired with the body of the message it names in ``In-Reply-To`` or
    ``References``, if that stands before it in the file.
    """
    bodies: dict[str, str] = {}
    for line, raw in mbox_messages(path, bad_rows):
        message = email.message_from_bytes(raw)
        subject, body = _header(message, "subject"), own_text(_body(message))
        group = plain_subject(subject)
        parent = next((bodies[each] for each in _parents(message) if each in bodies), "")
        identity = _ID.search(_header(message, "message-id"))
        if identity:
            bodies[identity[0]] = body[:MAX_KEPT_CHARACTERS]
        reason = _refusal(group, body)
        if reason is not None:
            bad_rows.report.skip(reason, path=path, line=line, detail=subject[:60])
            continue
        origin = f"{path.name}:{line}"
        if parent:
            yield Pair(parent, body, group=group, kind="post-comment", origin=origin)
        elif _REPLY.match(_TAG.sub("", subject, count=1)):
            bad_rows.report.skip("reply without its message", path=path, line=line)
        else:
            yield Pair(group, body, group=group, kind="title-body", origin=origin)


def mbox_messages(path: Path, bad_rows: BadRows) -> Iterator[tuple[int, bytes]]:
    """Yield (line, bytes of one message), cut at ``From `` lines behind a blank line."""
    lines: list[bytes] = []
    start, size, blank = 0, 0, True
    for number, line in read_lines(path, bad_rows=bad_rows):
        if blank and line.startswith(b"From "):
            if lines:
                yield start, b"\n".join(lines)
            lines, start, size = [], number, 0
        elif start:
            size += len(line) + 1
            if size <= MAX_MESSAGE_BYTES:
                lines.append(line[1:] if line.startswith(b">From ") else line)
        elif line.strip():
            bad_rows.refuse(
                "no mailbox", "expected a 'From ' line, as an mbox begins", path=path, line=number
            )
            return
        blank = not line.strip()
    if lines:
        yield start, b"\n".join(lines)


def plain_subject(subject: str) -> str:
    """Without ``Re:`` and a list's ``[tag]`` in front."""
    bare = _TAG.sub("", subject, count=1) if _TAG.match(subject) else subject
    while found := _REPLY.match(bare):
        bare = bare[found.end() :]
        bare = _TAG.sub("", bare, count=1) if _TAG.match(bare) else bare
    return " ".join(bare.split())


def own_text(body: str) -> str:
    """What the sender wrote: no quoted lines, no line that introduces them, no signature."""
    kept: list[str] = []
    for line in body.replace("\r\n", "\n").split("\n"):
        bare = line.rstrip()
        if bare in ("--", "---") or bare.startswith(_PATCH):
            break  # a signature, or a patch below its description
        if TRAILER.match(bare):
            continue
        if bare.startswith((">", "|>")) or _WROTE.match(bare.strip().lower()):
            continue
        kept.append(bare)
    return re.sub(r"\n{3,}", "\n\n", "\n".join(kept)).strip()


def _refusal(subject: str, body: str) -> str | None:
    if not subject:
        return "message without a subject"
    return None if num_words(body) >= MIN_WORDS else f"message under {MIN_WORDS} words"


def _parents(message: Message) -> list[str]:
    """Ids of the messages this one answers, nearest first."""
    direct = _ID.findall(_header(message, "in-reply-to"))
    return direct + _ID.findall(_header(message, "references"))[::-1]


def _header(message: Message, name: str) -> str:
    """A header as text; what cannot be decoded is shown as it stands."""
    try:
        value = message.get(name, "")
        return " ".join(str(make_header(decode_header(str(value)))).split())
    except (ValueError, LookupError, UnicodeError, IndexError):
        return ""


def _body(message: Message) -> str:
    """The first plain part; of a message without one, the first HTML part as text."""
    parts = [part for part in message.walk() if part.get_content_maintype() == "text"]
    for subtype in ("plain", "html"):
        for part in parts:
            if part.get_content_subtype() == subtype and not part.get_filename():
                text = _decoded(part)
                return text if subtype == "plain" else html_text(text)
    return ""


def _decoded(part: Message) -> str:
    try:
        payload = part.get_payload(decode=True)
    except (ValueError, LookupError, AssertionError):
        return ""
    if not isinstance(payload, bytes):
        return ""
    charset = part.get_content_charset() or "utf-8"
    try:
        return payload.decode(charset, "replace").replace("\0", "")
    except (LookupError, UnicodeError):
        return payload.decode("utf-8", "replace").replace("\0", "")
