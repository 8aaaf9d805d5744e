"""The pages on the disk -> the site's navigation: a new page needs no entry anywhere.

Sections come in the order in which people need them, pages by file name, and what is read first
(``index.md``, ``quickstart.md``) before the others. Titles are the pages' own headings.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

SECTIONS = {
    "tutorials": "Tutorials",
    "how-to": "How to",
    "reference": "Reference",
    "explanation": "Explanation",
    "decisions": "Decisions",
}
FIRST = ("index.md", "quickstart.md")


def on_config(config: Any) -> Any:
    """Called by MkDocs: fill in ``nav``."""
    config["nav"] = navigation(Path(config["docs_dir"]))
    return config


def navigation(docs: Path) -> list[Any]:
    """``nav`` as MkDocs reads it: the front page and its neighbours, then each section."""
    nav: list[Any] = ["index.md", *sorted({page.name for page in docs.glob("*.md")} - {"index.md"})]
    known = [*SECTIONS, *sorted(folder.name for folder in docs.iterdir() if folder.is_dir())]
    for name in dict.fromkeys(known):
        pages = sorted((docs / name).rglob("*.md"), key=_order)
        if pages:
            title = SECTIONS.get(name, name.replace("-", " ").capitalize())
            nav.append({title: [page.relative_to(docs).as_posix() for page in pages]})
    return nav


def _order(page: Path) -> tuple[str, int, str]:
    place = FIRST.index(page.name) if page.name in FIRST else len(FIRST)
    return page.parent.as_posix(), place, page.name
