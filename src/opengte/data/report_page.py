"""A data report -> lines for a terminal, and one page that needs no other file."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from opengte.atomic import write_text
from opengte.data.leakage import SetVerdict
from opengte.data.report import DataReport, SourceReport

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #888; --bar: #4a90d9; --bad: #c0392b;
  --mid: #b9770e; --good: #1e8449; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 76rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9rem; width: 100%; }
th, td { padding: .25rem .6rem; border-bottom: 1px solid var(--line); text-align: right;
  white-space: nowrap; }
th { color: var(--soft); font-weight: 600; } th:first-child, td:first-child { text-align: left; }
td.text { text-align: left; white-space: normal; overflow-wrap: anywhere; }
.bar { display: inline-block; height: .6rem; background: var(--bar); vertical-align: middle; }
.leaked { color: var(--bad); font-weight: 600; } .train { color: var(--mid); font-weight: 600; }
.shot { color: var(--good); font-weight: 600; } .soft { color: var(--soft); }
details { margin: .3rem 0; } summary { cursor: pointer; }
"""


def print_report(report: DataReport, *, console: Console | None = None) -> None:
    """Show the report in a terminal; a narrow one gets fewer columns."""
    console = console or Console()
    console.print(_headline(report), highlight=False)
    console.print(_mix_table(report, wide=console.width >= _WIDE))
    if report.positives:
        repeated = _table("queries", "source", "positive under many queries")
        for each in report.positives[:8]:
            text = Text(_one_line(each.text, 60))
            repeated.add_row(f"{each.num_queries:,}", Text(each.source), text)
        console.print(repeated)
    if report.verdicts:
        console.print(_verdict_table(report.verdicts))


def write_page(report: DataReport, path: str | Path) -> None:
    """Write the report as one HTML page without scripts or other files."""
    parts = [
        f"<h1>Data report</h1><p>{html.escape(_headline(report))}</p>",
        _section("Mixture", _mix_html(report)),
        _section("Truncation", _truncation_html(report)),
        _section("Evaluation sets", _verdicts_html(report.verdicts)),
        _section("One positive under many queries", _positives_html(report)),
        _section("Sample rows", "".join(map(_samples_html, report.sources))),
    ]
    page = (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Data report</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{_STYLE}</style><body>{''.join(parts)}</body></html>\n"
    )
    # A lone surrogate in a sample cannot be written as UTF-8.
    write_text(path, page.encode("utf-8", "replace").decode("utf-8"))


def _headline(report: DataReport) -> str:
    mode, alpha = report.mixture["mode"], report.mixture["alpha"]
    return (
        f"{report.num_pairs:,} pairs of {len(report.sources)} sources; mode {mode}, alpha {alpha}, "
        f"batches of {report.mixture['batch_size']:,}; {report.num_steps:,} steps planned; "
        f"{report.tokens_per_step:,.0f} tokens a step ({report.tokens_counted}, texts cut at "
        f"{report.max_tokens}); {report.skipped_per_step:.2%} of rows skipped as repeats in their "
        f"batch; {report.duplicates_across:,} pairs stand in several sources"
    )


_COLUMNS = (
    "source",
    "pairs",
    "usable",
    "share",
    "steps",
    "epochs",
    "tokens q / p",
    "dup",
    "near",
    "shared positive",
)
_NARROW = ("source", "pairs", "share", "epochs", "tokens q / p", "dup", "shared positive")
_WIDE = 130  # characters that all columns need


def _cells(row: SourceReport) -> dict[str, str]:
    near = row.near_duplicates
    cells = (
        row.name,
        f"{row.num_pairs:,}",
        f"{row.num_usable:,}",
        f"{row.share:.2%}",
        f"{row.steps:,.0f}",
        f"{row.epochs:,.2f}",
        f"{row.query_tokens:.0f} / {row.positive_tokens:.0f}",
        f"{row.duplicates:.1%}",
        "" if near is None else f"{near:.1%}",
        f"{row.shared_positives:.1%}",
    )
    return dict(zip(_COLUMNS, cells, strict=True))


def _columns(report: DataReport) -> list[str]:
    """All columns but that of near duplicates, where nobody asked for these."""
    counted = any(row.near_duplicates is not None for row in report.sources)
    return [name for name in _COLUMNS if name != "near" or counted]


def _by_share(report: DataReport) -> list[SourceReport]:
    return sorted(report.sources, key=lambda row: -row.share)


def _table(*columns: str) -> Table:
    return Table(*columns, box=None, pad_edge=False, padding=(0, 2, 0, 0))


def _mix_table(report: DataReport, *, wide: bool) -> Table:
    names = (_columns(report) if wide else _NARROW)[1:]
    lengths = list(report.sources[0].truncated)
    headers = [name.removesuffix(" positive") for name in names]
    headers += [f"> {length}" for length in (lengths if wide else lengths[-1:])]
    rows = []
    for row in _by_share(report):
        cells, shares = _cells(row), list(row.truncated.values())
        cut = [f"{share:.0%}" for share in (shares if wide else shares[-1:])]
        rows.append([row.name, *(cells[name] for name in names), *cut])
    table = _table()
    table.add_column("source", overflow="ellipsis", no_wrap=True, ratio=1, min_width=12)
    for place, header in enumerate(headers, start=1):
        # Numbers are never cut: where the terminal is narrow, the names of sources are.
        width = max(len(header), *(len(row[place]) for row in rows))
        table.add_column(header, justify="right", no_wrap=True, min_width=width)
    for name, *numbers in rows:
        table.add_row(Text(name), *numbers)
    return table


def _verdict_table(verdicts: Sequence[SetVerdict]) -> Table:
    table = _table("evaluation set", "verdict", "rows leaked", "most from")
    colours = {"leaked": "red", "in-domain train": "yellow", "zero-shot": "green"}
    for each in verdicts:
        table.add_row(
            Text(f"{each.name} ({each.split})"),
            Text(each.verdict, style=colours[each.verdict]),
            f"{each.num_leaked:,} of {each.num_rows:,}",
            Text(_found_in(each)),
        )
    return table


def _found_in(each: SetVerdict) -> str:
    if each.by_source:
        return ", ".join(f"{name} {n:,}" for name, n in list(each.by_source.items())[:3])
    material = []
    if each.num_training:
        material.append(f"{each.num_training:,} of {each.of_training:,} training texts")
    if each.num_corpus:
        material.append(f"{each.num_corpus:,} of {each.of_corpus:,} documents")
    return ", ".join(material)


def _section(title: str, body: str) -> str:
    return f'<h2>{html.escape(title)}</h2><div class="wide">{body}</div>' if body else ""


def _row(cells: Iterable[str], tag: str = "td") -> str:
    return "<tr>" + "".join(f"<{tag}>{cell}</{tag}>" for cell in cells) + "</tr>"


def _mix_html(report: DataReport) -> str:
    widest = max(row.share for row in report.sources)
    columns = _columns(report)
    rows = []
    for row in _by_share(report):
        cells = {name: html.escape(cell) for name, cell in _cells(row).items()}
        width = round(8 * row.share / widest, 2) if widest else 0
        bar = f'<span class="bar" style="width:{width}rem"></span>'
        cells["share"] = f"{bar} {cells['share']}"
        rows.append(_row(cells[name] for name in columns))
    return f"<table>{_row(columns, 'th')}{''.join(rows)}</table>"


def _truncation_html(report: DataReport) -> str:
    lengths = report.sources[0].truncated
    head = _row(["share of positives longer than", *(f"{n} tokens" for n in lengths)], "th")
    rows = [
        _row([html.escape(row.name), *(f"{share:.1%}" for share in row.truncated.values())])
        for row in _by_share(report)
    ]
    return f"<table>{head}{''.join(rows)}</table>"


_CLASSES = {"leaked": "leaked", "in-domain train": "train", "zero-shot": "shot"}


def _verdicts_html(verdicts: Sequence[SetVerdict]) -> str:
    if not verdicts:
        return '<p class="soft">None was given.</p>'
    rows = [
        _row(
            [
                html.escape(f"{each.name} ({each.split})"),
                f'<span class="{_CLASSES[each.verdict]}">{each.verdict}</span>',
                f"{each.num_leaked:,} of {each.num_rows:,}",
                html.escape(_found_in(each)),
            ]
        )
        for each in verdicts
    ]
    head = _row(["set", "verdict", "rows leaked", "found in"], "th")
    return f"<table>{head}{''.join(rows)}</table>" + "".join(map(_leaked_html, verdicts))


def _leaked_html(each: SetVerdict) -> str:
    if not each.rows:
        return ""
    rows = "".join(
        f"<tr><td>{html.escape(row.source)}:{row.row} {row.side}</td><td>{row.rule}</td>"
        f'<td class="text">{html.escape(row.text)}</td>'
        f'<td class="text">{html.escape(row.evaluation_text)}</td></tr>'
        for row in each.rows
    )
    return (
        f"<details><summary>{html.escape(each.name)}: the rows</summary><table>"
        f"{_row(['training row', 'rule', 'its text', 'evaluation text'], 'th')}{rows}"
        "</table></details>"
    )


def _positives_html(report: DataReport) -> str:
    rows = "".join(
        f"<tr><td>{html.escape(each.source)}</td><td>{each.num_queries:,}</td>"
        f'<td class="text">{html.escape(each.text)}</td></tr>'
        for each in report.positives
    )
    head = _row(["source", "queries", "positive"], "th")
    return f"<table>{head}{rows}</table>" if rows else '<p class="soft">None.</p>'


def _samples_html(row: SourceReport) -> str:
    cells = "".join(
        f'<tr><td class="text">{html.escape(query[:500])}</td>'
        f'<td class="text">{html.escape(positive[:1000])}</td></tr>'
        for query, positive in row.samples
    )
    name = html.escape(row.name)
    return f"<details><summary>{name}</summary><table>{cells}</table></details>"


def _one_line(text: str, width: int) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= width else flat[: width - 1] + "…"
