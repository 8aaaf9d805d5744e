"""The report stage: what the run found -> ``summary.json``, ``report.html`` and a few lines."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

from opengte.atomic import atomic_folder, write_json, write_text
from opengte.pipeline.findings import Findings, find
from opengte.pipeline.report_builder import build_report, search_example
from opengte.pipeline.report_page import render_report
from opengte.pipeline.runner import StageContext
from opengte.pipeline.stage_configs import ReportStage
from opengte.pipeline.summary import summarise_run


def run(config: ReportStage, context: StageContext) -> Mapping[str, Any]:
    """Write both reports, in the stage's folder and at the top of the run folder."""
    findings = find(config, context.results)
    summary = summarise_run(findings)
    page = render_report(
        build_report(findings, name=context.run_folder.name, corpus_name=config.corpus_name)
    )
    with atomic_folder(context.output) as folder:
        write_json(folder / "summary.json", summary)
        write_text(folder / "report.html", page)
    write_json(context.run_folder / "summary.json", summary)
    write_text(context.run_folder / "report.html", page)
    _tell(findings, summary, context)
    return {"summary": summary}


def _tell(findings: Findings, summary: Mapping[str, Any], context: StageContext) -> None:
    line = context.console.line
    queries = [query.id for query in findings.held_out.queries]
    drawn = random.Random(context.seed).sample(
        queries, min(findings.config.example_searches, len(queries))
    )
    line()
    line(f"  {len(drawn)} searches drawn at random, before and after:")
    for query in drawn:
        example = search_example(findings, query)
        line(f"  ? {example.query}")
        for when, rank, hits in (
            ("before", example.rank_before, example.before),
            ("after ", example.rank_after, example.after),
        ):
            place = "beyond 100" if rank is None else f"{rank}"
            line(f"    {when}  right answer at {place:10}  first hit {hits[0].origin}")
    base, final = (summary["systems"][name]["mrr@10"] for name in ("base", "final"))
    low, high = summary["paired_difference"]["ci95"]
    line()
    line(
        f"  MRR@10 {base:.3f} -> {final:.3f}: {summary['paired_difference']['mean']:+.3f}, "
        f"95 % interval [{low:+.3f}, {high:+.3f}], {summary['num_test_queries']} held-out queries "
        f"among {summary['num_pool_documents']:,} documents"
    )
