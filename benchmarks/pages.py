"""A table made from a results file -> its place in a page, so that no number is typed."""

from __future__ import annotations


def with_block(page: str, name: str, block: str) -> str:
    """``page`` with ``block`` between the comments ``NAME:start`` and ``NAME:end``.

    Raises:
        ValueError: the page has no such place, or several.
    """
    start, end = f"<!-- {name}:start -->\n", f"<!-- {name}:end -->\n"
    if page.count(start) != 1 or page.count(end) != 1:
        raise ValueError(f"the page needs one {start.strip()} and one {end.strip()}")
    before, rest = page.split(start)
    _, after = rest.split(end)
    return before + start + block + end + after
