"""The output of ``git log`` to (subject, body of the message)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from opengte.data.readers.bad_rows import BadRows
from opengte.data.readers.lines import decode_line, read_lines
from opengte.data.readers.sections import num_words
from opengte.records import Pair

MIN_WORDS = 5
_COMMIT = re.compile(r"commit ([0-9a-f]{7,64})\b")
TRAILER = re.compile(
    r"(?:signed-off|acked|reviewed|tested|reported|suggested|co-authored|helped|requested)-by:"
    r"|cc:|fixes:|closes:|link:|bug:|x?\.?org-bug:|change-id:|git-svn-id:|\(cherry picked from",
    re.IGNORECASE,
)


@dataclass
class Commit:
    """One commit: its hash, the line it begins at, the lines of its message."""

    id: str
    line: int
    message: list[str] = field(default_factory=list)


def read_git_log(path: Path, bad_rows: BadRows) -> Iterator[Pair]:
    """Yield (subject, body) for every commit with a body; trailers are cut.

    Reads ``git log`` (medium, full, fuller; ``--stat`` and patches are passed over) written to a
    file: ``git log > log.txt``.
    """
    for commit in commits(path, bad_rows):
        lines = "\n".join(commit.message).strip("\n").split("\n")
        end = lines.index("") if "" in lines else len(lines)
        subject = " ".join(" ".join(lines[:end]).split())
        body = "\n".join(line for line in lines[end:] if not TRAILER.match(line)).strip()
        if not subject or num_words(body) < MIN_WORDS:
            reason = f"message body under {MIN_WORDS} words" if subject else "blank message"
            bad_rows.report.skip(reason, path=path, line=commit.line)
            continue
        yield Pair(
            subject, body, group=commit.id, kind="title-body", origin=f"{path.name}:{commit.line}"
        )


def commits(path: Path, bad_rows: BadRows) -> Iterator[Commit]:
    """Yield the commits; the message is what ``git log`` indents by four spaces."""
    commit: Commit | None = None
    for number, raw in read_lines(path, bad_rows=bad_rows):
        line = _decoded(raw)
        found = _COMMIT.match(line)
        if found:
            if commit is not None:
                yield commit
            commit = Commit(found[1], number)
        elif commit is None:
            if line.strip():
                message = "expected a line 'commit HASH', as git log begins"
                bad_rows.refuse("no git log", message, path=path, line=number)
                return
        elif line.startswith("    "):
            commit.message.append(line[4:].rstrip())
        elif not line.strip() and commit.message:
            commit.message.append("")
    if commit is not None:
        yield commit


def _decoded(raw: bytes) -> str:
    """Old messages come in any encoding: Latin-1 where UTF-8 fails, as git shows them."""
    try:
        return decode_line(raw)
    except ValueError:
        return raw.decode("latin-1")
