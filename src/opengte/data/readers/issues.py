"""Tickets as JSON, CSV or feed rows: GitHub and Jira exports to (title, body) and comments."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from opengte.data.readers.bad_rows import BadRows, NoPairError, RowError
from opengte.data.readers.html_text import html_text
from opengte.data.readers.markdown import markdown_sections
from opengte.data.readers.row_values import Row, text_of
from opengte.data.readers.xml_stream import xml_elements
from opengte.records import Pair

MIN_CHARACTERS = 20
_TEMPLATE = re.compile(r"<!--.*?-->", re.DOTALL)
_JIRA_BLOCK = re.compile(r"\{(?:code|noformat|quote|panel|color)(?::[^{}]*)?\}")
_JIRA_LINK = re.compile(r"\[([^\]|]+)\|[^\]]+\]")


def github_issue_pairs(row: Row, origin: str) -> Sequence[Pair]:
    """GitHub: (title, body), and (title, comment) where ``comments`` holds them.

    Reads issues and pull requests as the REST API gives them, and ``gh issue list --json
    number,title,body,comments``.
    """
    title = text_of(row, "title").strip()
    group = _repository(row)
    texts = [("title-body", _markdown_text(row.get("body")))]
    comments = row.get("comments")
    if isinstance(comments, dict):  # GraphQL
        comments = comments.get("nodes")
    if isinstance(comments, list):
        bodies = [entry.get("body") for entry in comments if isinstance(entry, dict)]
        texts.extend(("post-comment", _markdown_text(body)) for body in bodies)
    return _pairs(title, texts, group, origin)


def jira_issue_pairs(row: Row, origin: str) -> Sequence[Pair]:
    """Jira's REST API: ``fields`` with ``summary``, ``description`` and ``comment.comments``."""
    fields = row.get("fields")
    if not isinstance(fields, dict):
        raise RowError("no fields", "field 'fields' must be an object, as Jira's API gives it")
    title = text_of(fields, "summary").strip()
    texts = [("title-body", jira_text(fields.get("description")))]
    comment = fields.get("comment")
    comments = comment.get("comments") if isinstance(comment, dict) else None
    for entry in comments if isinstance(comments, list) else []:
        if isinstance(entry, dict):
            texts.append(("post-comment", jira_text(entry.get("body"))))
    project = str(row.get("key", "")).rpartition("-")[0]
    return _pairs(title, texts, project, origin)


def jira_table_pairs(row: Row, origin: str) -> Sequence[Pair]:
    """Jira's CSV export: ``Summary``, ``Description``, ``Issue key``."""
    title = text_of(row, "Summary").strip()
    project = str(row.get("Issue key", "")).rpartition("-")[0]
    return _pairs(title, [("title-body", jira_text(row.get("Description")))], project, origin)


def read_jira_xml(path: Path, bad_rows: BadRows) -> Iterator[Pair]:
    """Jira's XML export (a feed): an ``item`` with summary, description and comments."""
    for item in xml_elements(path, "item", bad_rows):
        title = item.child_text("summary").strip()
        texts = [("title-body", html_text(item.child_text("description")))]
        comments = item.child("comments")
        for comment in comments.children if comments is not None else []:
            texts.append(("post-comment", html_text(comment.full_text)))
        project = item.child_text("key").rpartition("-")[0]
        try:
            yield from _pairs(title, texts, project, f"{path.name}:{item.line}")
        except RowError as error:
            bad_rows.report.skip(error.reason, path=path, line=item.line)


def jira_text(value: Any) -> str:
    """Plain text of wiki markup, or of the document tree that Jira's newer API gives."""
    if isinstance(value, dict):
        return "\n".join(_document_texts(value, 0)).strip()
    if not isinstance(value, str):
        return ""
    return _JIRA_LINK.sub(r"\1", _JIRA_BLOCK.sub("", value)).replace("\r\n", "\n").strip()


def _document_texts(node: dict[str, Any], depth: int) -> Iterator[str]:
    """Texts of Atlassian's document format, one line for each paragraph-like node."""
    children = node.get("content")
    inline = []
    for child in children if isinstance(children, list) and depth < 50 else []:
        if not isinstance(child, dict):
            continue
        if isinstance(child.get("text"), str):
            inline.append(child["text"])
        else:
            yield from _document_texts(child, depth + 1)
    if inline:
        yield "".join(inline)


def _markdown_text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        return ""
    parts: list[str] = []
    for section in markdown_sections(_TEMPLATE.sub("", value).replace("\r\n", "\n")):
        parts.extend(part for part in (section.heading, section.text) if part.strip())
    return "\n\n".join(parts)


def _repository(row: Row) -> str:
    url = row.get("html_url") or row.get("url")
    parts: list[str] = url.split("/") if isinstance(url, str) else []
    return "/".join(parts[3:5]) if len(parts) > 5 and "api." not in parts[2] else ""


def _pairs(title: str, texts: list[tuple[str, str]], group: str, origin: str) -> list[Pair]:
    if not title:
        raise RowError("ticket without a title", "the title is blank")
    pairs = [
        Pair(title, text, kind=kind, group=group, origin=origin)
        for kind, text in texts
        if len(text) >= MIN_CHARACTERS
    ]
    if not pairs:
        message = f"no description of {MIN_CHARACTERS} characters or more"
        raise NoPairError("ticket without a description", message)
    return pairs
