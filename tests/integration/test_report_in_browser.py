"""The report page as a browser shows it: nothing is fetched, nothing overflows, marks line up."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from opengte.pipeline.report_page import render_report

pytestmark = pytest.mark.slow
SAMPLE = Path(__file__).resolve().parents[1] / "unit/pipeline/test_report_page.py"
FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
)
MISALIGNED = """() => {
  const middle = e => e.getBoundingClientRect().left + e.getBoundingClientRect().width / 2;
  const worst = table => {
    const ticks = [...table.querySelectorAll('thead .labels i')].map(middle);
    const rows = [...table.querySelectorAll('tbody tr')];
    return Math.max(...rows.flatMap(row =>
      [...row.querySelectorAll('.line')].map((e, i) => Math.abs(middle(e) - ticks[i]))));
  };
  return Math.max(...[...document.querySelectorAll('table.stacked')].map(worst));
}"""


@pytest.fixture(scope="module")
def page_file(tmp_path_factory) -> Path:
    spec = importlib.util.spec_from_file_location("report_sample", SAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["report_sample"] = module
    spec.loader.exec_module(module)
    file = tmp_path_factory.mktemp("report") / "report.html"
    file.write_text(render_report(module.sample_report()), encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("no chromium")
    with api.sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=chromium, args=list(FLAGS))
        yield found
        found.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 700, 1280])
def test_page_fits_fetches_nothing_and_lines_up(browser, page_file, width, scheme):
    page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    seen: list[str] = []
    page.on("request", lambda request: seen.append(request.url))
    page.on("console", lambda message: seen.append(message.text))
    page.goto(page_file.as_uri())
    assert seen == [page_file.as_uri()]
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(MISALIGNED) < 1.0
    page.close()


def test_paper_shows_every_search(browser, page_file):
    page = browser.new_page()
    page.goto(page_file.as_uri())
    page.emulate_media(media="print")
    closed = page.locator("details:not([open]) .hit pre")
    assert closed.count() > 50
    assert all(closed.nth(i).bounding_box()["height"] > 8 for i in range(0, closed.count(), 10))
    page.close()
