"""Findings -> the values of the report page."""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from opengte import __version__
from opengte.metrics.bootstrap import Interval
from opengte.pipeline.environment import describe_environment
from opengte.pipeline.findings import Findings
from opengte.pipeline.report_data import (
    Candidate,
    CorpusFacts,
    Decision,
    FoundDocument,
    Headline,
    LossCurve,
    ReportData,
    SearchExample,
    SkippedRow,
    SliceRow,
    SourceRow,
    SplitRow,
    StageTime,
    SystemRow,
    similarity_histogram,
)
from opengte.records import Document

SNIPPET_CHARACTERS = 700
DESCRIPTIONS = {
    "bm25": "words alone, camelCase and snake_case split",
    "base": "the model as it came",
    "hybrid_base": "base and BM25, joined by rank",
    "stage1": "after contrastive pre-training on weak pairs",
    "final": "what dev kept",
    "hybrid_final": "final and BM25, joined by rank",
}
QUESTIONS = {
    "all": "every held-out query",
    "name_masked": "does it still find a function whose name says nothing?",
    "low_overlap": "the third of the queries that share the fewest words with their answer",
    "unseen_package": "packages of which nothing was seen in training",
    "general": "other topics altogether: was anything unlearned?",
}


def build_report(findings: Findings, *, name: str, corpus_name: str) -> ReportData:
    """Everything on the page."""
    return ReportData(
        name=name,
        corpus_name=corpus_name,
        made_at=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        version=__version__,
        headline=_headline(findings),
        systems=_systems(findings),
        corpus=_corpus(findings),
        slices=_slices(findings),
        losses=_losses(findings),
        stage_starts=_stage_starts(findings),
        similarities=_similarities(findings),
        better=search_examples(findings, better=True),
        worse=search_examples(findings, better=False),
        decisions=[_decision(findings)],
        stages=[StageTime(name=s.name, seconds=s.seconds) for s in findings.results.values()],
        training=_training(findings),
        environment=_environment(),
        licences=LICENCES,
        reproduce=["gte run recipe.resolved.yaml --out AGAIN"],
        notes=_notes(findings),
    )


LICENCES = (
    ("all-MiniLM-L6-v2", "Apache-2.0, the default base model"),
    ("general slice", "seven open sources, named in recipes/general/LICENCES.md"),
    ("embedded corpus", "read where it is installed, under each package's own licence"),
)


def search_examples(findings: Findings, *, better: bool) -> list[SearchExample]:
    """The queries whose first right answer moved most, up or down."""
    before, after = (findings.details[role]["test"] for role in ("base", "final"))
    base = before["per_query"]["dense"]["mrr@10"]
    final = after["per_query"]["dense"]["mrr@10"]
    gain = {query: final[query] - base[query] for query in base}
    moved = [query for query in gain if (gain[query] > 0 if better else gain[query] < 0)]
    moved.sort(key=lambda query: (-abs(gain[query]), query))
    return [search_example(findings, q) for q in moved[: findings.config.num_examples]]


def search_example(findings: Findings, query_id: str) -> SearchExample:
    """One query before and after."""
    documents = {document.id: document for document in findings.held_out.documents}
    relevant = findings.held_out.qrels[query_id]
    texts = {query.id: query.text for query in findings.held_out.queries}
    before, after = (findings.details[role]["test"] for role in ("base", "final"))

    def found(hits: Iterable[Sequence[Any]]) -> list[FoundDocument]:
        return [_found(documents[doc], score, relevant) for doc, score in hits]

    return SearchExample(
        query=texts[query_id],
        rank_before=before["rank"][query_id],
        rank_after=after["rank"][query_id],
        before=found(before["hits"][query_id]),
        after=found(after["hits"][query_id]),
    )


def _found(document: Document, score: float, relevant: Mapping[str, int]) -> FoundDocument:
    return FoundDocument(
        origin=document.origin or document.id,
        text=document.text[:SNIPPET_CHARACTERS],
        score=score,
        relevant=document.id in relevant,
    )


def _headline(findings: Findings) -> Headline:
    comparison = findings.comparisons["all"]
    return Headline(
        metric="MRR@10",
        base=comparison.interval("base"),
        final=comparison.interval("final"),
        difference=comparison.difference,
        num_queries=comparison.num_queries,
        num_documents=len(findings.held_out.documents),
        num_groups=len(set(comparison.clusters)),
        group_name="groups",
    )


def _systems(findings: Findings) -> list[SystemRow]:
    return [
        SystemRow(
            name=name,
            description=DESCRIPTIONS[name],
            interval=Interval(row["mrr@10"], *row["ci95"]),
            metrics={
                "MRR@10": row["mrr@10"],
                "nDCG@10": row["ndcg@10"],
                "Recall@10": row["recall@10"],
            },
            role="base" if name == "base" else "final" if name == "final" else "other",
        )
        for name, row in findings.systems.items()
    ]


def _slices(findings: Findings) -> list[SliceRow]:
    return [
        SliceRow(
            name=name,
            question=QUESTIONS[name],
            num_queries=comparison.num_queries,
            base=comparison.interval("base"),
            final=comparison.interval("final"),
            difference=comparison.difference,
        )
        for name, comparison in findings.comparisons.items()
    ]


def _corpus(findings: Findings) -> CorpusFacts:
    facts = findings.facts(findings.config.corpus)
    shares = findings.facts(findings.config.pretraining)["shares"]
    return CorpusFacts(
        fingerprint=facts["fingerprint"],
        num_files=facts["files"],
        sources=[
            SourceRow(name=kind, description="", num_pairs=number, share=shares.get(kind, 0.0))
            for kind, number in facts["train_pairs"].items()
        ],
        splits=[
            SplitRow(
                name="train",
                num_groups=facts["train_groups"],
                num_pairs=facts["num_train_pairs"],
            ),
            SplitRow(
                name="dev",
                num_groups=len(facts["dev_groups"]),
                num_pairs=facts["num_dev_queries"],
                num_queries=facts["num_dev_queries"],
            ),
            SplitRow(
                name="test",
                num_groups=len(facts["test_groups"]),
                num_pairs=facts["num_test_queries"],
                num_queries=facts["num_test_queries"],
                num_documents=facts["num_pool_documents"],
            ),
        ],
        num_overlap_exact=facts["overlap"]["exact"],
        num_overlap_near=facts["overlap"]["near"],
        skipped=[
            SkippedRow(
                reason=reason,
                count=number,
                example=next(iter(facts["skipped_examples"].get(reason, ())), ""),
            )
            for reason, number in facts["skipped"].items()
        ],
    )


def _losses(findings: Findings) -> list[LossCurve]:
    curves: dict[str, list[tuple[int, float]]] = {}
    first = 0
    for stage in findings.training_stages:
        facts = findings.facts(stage)
        for source, points in facts["losses"].items():
            curves.setdefault(source, []).extend((first + step, loss) for step, loss in points)
        first += facts["num_steps"]
    return [LossCurve(source=source, points=points) for source, points in curves.items()]


def _stage_starts(findings: Findings) -> list[tuple[str, int]]:
    starts, first = [], 0
    for stage in findings.training_stages:
        starts.append((stage, first))
        first += findings.facts(stage)["num_steps"]
    return starts


def _similarities(findings: Findings) -> list[Any]:
    rows = []
    for role in ("base", "final"):
        found = findings.details[role]["test"]["similarities"]
        rows.append(similarity_histogram(role, found["positive"], found["random"]))
    return rows


def _decision(findings: Findings) -> Decision:
    facts = findings.facts(findings.config.merge)
    kept = facts["kept"]
    floor = facts["candidates"][0]["general"] - facts["max_general_loss"]
    return Decision(
        question="Which weights are kept?",
        rule=(
            "the highest MRR@10 on dev among those that lose at most "
            f"{facts['max_general_loss'] * 100:g} point of MRR@10 on the general slice's dev half"
        ),
        candidates=[
            Candidate(
                name=row["model"]
                if row["weight"] == 1
                else f"{row['weight']:g} {row['model']}"
                f" + {1 - row['weight']:g} {facts['candidates'][0]['model']}",
                dev=row["dev"],
                general=row["general"],
                allowed=row["general"] is None or row["general"] >= floor,
                kept=row == kept,
            )
            for row in facts["candidates"]
        ],
    )


def _training(findings: Findings) -> list[tuple[str, str]]:
    rows = []
    for stage in findings.training_stages:
        facts = findings.facts(stage)
        rows.append(
            (
                stage,
                f"{facts['num_steps']} steps, {facts['num_pairs']:,} pairs, "
                f"{facts['num_tokens']:,} tokens at {facts['tokens_per_second']:,.0f} tokens/s, "
                f"{facts['num_truncated']:,} texts truncated",
            )
        )
    if findings.config.mining is not None:
        facts = findings.facts(findings.config.mining)
        rows.append(
            (
                findings.config.mining,
                f"{facts['num_negatives']:,} hard negatives for {facts['num_queries']:,} queries",
            )
        )
    return rows


def _environment() -> list[tuple[str, str]]:
    facts = describe_environment()
    rows = [("Python", facts["python"]), ("processors", str(facts["num_cpus"]))]
    rows.append(("vector units", ", ".join(facts["cpu_features"]) or "unknown"))
    rows += [(name, version) for name, version in facts["packages"].items() if version]
    return rows


def _notes(findings: Findings) -> list[str]:
    notes = []
    groups = Counter(findings.comparisons["all"].clusters)
    if len(groups) < 10:
        notes.append(
            f"The test holds {len(groups)} groups only: its interval is wide, and wider than it "
            "looks."
        )
    if findings.comparisons["all"].num_queries < 300:
        notes.append(
            f"The test holds {findings.comparisons['all'].num_queries} queries; with fewer than "
            "300, small differences cannot be seen."
        )
    return notes
