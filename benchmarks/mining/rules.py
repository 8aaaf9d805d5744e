"""What each mining rule refuses and leaves on one real corpus, with twenty negatives to read.

    python benchmarks/mining/rules.py --json benchmarks/mining/rules.json

3,000 neighbouring sections of ``cpp_docs_sections`` (heading -> section; a page is a document and
its group), their positives as the corpus, all-MiniLM-L6-v2 at 64 tokens, five negatives for each of
every second pair. One rule at a time stands on the bare ranking; ``refresh`` trains 12 steps on
256 of the pairs and mines anew with the model as it stands (ANCE). The corpus is embedded once,
below ``--cache``. Twenty kept negatives a rule, drawn with seed 0, are for reading: LOG.md says
what was seen in them. The corpus is read from the shared folder (``OPENGTE_SHARED``, else
``../shared`` beside the repository); its licence stands in CORPORA.md.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import numpy as np  # noqa: E402
from cells import ROOT, commit, machine  # noqa: E402

from opengte.atomic import write_json  # noqa: E402
from opengte.contracts import TextEncoder  # noqa: E402
from opengte.data.mixture import Mixture, MixtureConfig, Source  # noqa: E402
from opengte.data.readers import read_pairs  # noqa: E402
from opengte.loading import find_model  # noqa: E402
from opengte.losses.contrastive_config import InfoNCEConfig  # noqa: E402
from opengte.mining.corpus import corpus_of_pairs  # noqa: E402
from opengte.mining.mine import MiningResult, mine_negatives  # noqa: E402
from opengte.mining.remine import RemineConfig, RemineNegatives  # noqa: E402
from opengte.mining.report import MiningReport  # noqa: E402
from opengte.mining.rules import MiningRules  # noqa: E402
from opengte.mining.side_files import NegativeTable, RefreshedBatches  # noqa: E402
from opengte.models.encoder import Encoder  # noqa: E402
from opengte.models.weights import load_encoder  # noqa: E402
from opengte.records import Pair  # noqa: E402
from opengte.search.cached_encoder import CachedEncoder  # noqa: E402
from opengte.training.config import TrainingConfig  # noqa: E402
from opengte.training.loop import train  # noqa: E402

CORPUS, FIRST, NUM_PAIRS, EVERY = "cpp_docs_sections", 3_000, 3_000, 2
MAX_TOKENS, NUM_NEGATIVES, NUM_READ, SHOWN = 64, 5, 20, 220
BARE = MiningRules(
    num_negatives=NUM_NEGATIVES, perc_pos=None, near_duplicate=None, exclude_answers=False
)
WINDOW = {"first_rank": 10, "last_rank": 50}
RULES = {
    "none": BARE,
    "rank window 10-50": replace(BARE, **WINDOW),
    "random in the window": replace(BARE, **WINDOW, sampling="random"),
    "max_score 0.7": replace(BARE, max_score=0.7),
    "absolute_margin 0.05": replace(BARE, absolute_margin=0.05),
    "perc_pos 0.95 (relative margin 0.05)": replace(BARE, perc_pos=0.95),
    "answers": replace(BARE, exclude_answers=True),
    "same document": replace(BARE, exclude_same_group=True),
    "near_duplicate 0.8": replace(BARE, near_duplicate=0.8),
}
STEPS, BATCH, REFRESHED_PAIRS = 12, 16, 256


def main() -> None:
    """Mine with every rule, then while training, and write what is to be read."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--cache", type=Path, default=None, help="keeps the embedded corpus")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        cache = options.cache or Path(scratch) / "corpus"
        known = read_corpus()
        pairs = known[::EVERY]
        encoder = load_encoder(find_model("all-MiniLM-L6-v2"), max_tokens=MAX_TOKENS)
        rows = []
        remembering = CachedEncoder(encoder, cache / "queries")
        for name, rules in RULES.items():
            folder = Path(scratch) / f"rule-{len(rows)}"
            rows.append(describe(name, mine(pairs, known, remembering, rules, folder, cache)))
        rows.append(refresh(pairs, known, encoder, Path(scratch), cache))
    write_json(
        options.json,
        {
            "machine": machine("torch"),
            "commit": commit("src/opengte/mining", "benchmarks/mining/rules.py"),
            "command": "python benchmarks/mining/rules.py --json benchmarks/mining/rules.json",
            "corpus": CORPUS,
            "num_pairs": len(pairs),
            "num_documents": len(corpus_of_pairs(known)),
            "rows": rows,
        },
    )


def read_corpus() -> list[Pair]:
    """Neighbouring sections, so that a page's other sections are there too."""
    shared = Path(os.environ.get("OPENGTE_SHARED", ROOT.parent / "shared"))
    path = shared / "data" / "pairs" / f"{CORPUS}.jsonl.zst"
    rows = islice(read_pairs(path), FIRST, FIRST + NUM_PAIRS)
    return [replace(pair, group=pair.query.partition(": ")[0]) for pair in rows]


def mine(
    pairs: Sequence[Pair],
    known: Sequence[Pair],
    encoder: TextEncoder,
    rules: MiningRules,
    folder: Path,
    cache: Path,
) -> MiningResult:
    """One rule on the whole corpus."""
    return mine_negatives(
        pairs,
        corpus_of_pairs(known),
        encoder,
        rules,
        folder=folder,
        known_pairs=known,
        cache_folder=cache,
    )


def describe(name: str, result: MiningResult) -> dict[str, Any]:
    """Counts, quantiles and twenty negatives."""
    report = result.report
    print(f"{name}: {', '.join(report.lines()[1:])}", flush=True)
    return {
        "rule": name,
        "num_candidates": report.num_candidates,
        "num_negatives": report.num_negatives,
        "full_short_none": [report.num_full, report.num_short, report.num_empty],
        "skipped": {
            rule: {"count": fate.count, "share": round(fate.share, 4)}
            for rule, fate in report.skipped.items()
        },
        "score_quantiles": dict(report.kept.score_quantiles),
        "read": twenty(result.pairs, [pair.negatives for pair in result.pairs]),
        "refused": refused(report),
    }


def refused(report: MiningReport) -> list[dict[str, str]]:
    """Up to twenty candidates that the one rule refused, from the report."""
    always = ("known_positive", "copy_of_query")
    names = [name for name in report.skipped if name not in always]
    if len(names) > 1:
        names.remove("rank_window")  # stands beside every other rule
    return [
        {
            "query": example.query,
            "positive": example.positive[:SHOWN],
            "candidate": example.candidate[:SHOWN],
        }
        for name in names
        for example in report.skipped[name].examples
    ]


def twenty(pairs: Sequence[Pair], negatives: Sequence[Sequence[str]]) -> list[dict[str, str]]:
    """One negative of each of twenty pairs, drawn."""
    draw = np.random.default_rng(0)
    with_some = [row for row, texts in enumerate(negatives) if texts]
    chosen = draw.choice(with_some, NUM_READ, replace=False).tolist()
    return [
        {
            "query": pairs[row].query,
            "positive": pairs[row].positive[:SHOWN],
            "negative": negatives[row][int(draw.integers(len(negatives[row])))][:SHOWN],
        }
        for row in chosen
    ]


def refresh(
    pairs: Sequence[Pair], known: Sequence[Pair], encoder: Encoder, scratch: Path, cache: Path
) -> dict[str, Any]:
    """Train from the top of the list, mining anew half-way with the default rules."""
    started = time.process_time()
    rules = MiningRules(num_negatives=NUM_NEGATIVES)
    some = pairs[:: len(pairs) // REFRESHED_PAIRS][:REFRESHED_PAIRS]
    mined = mine(some, known, encoder, rules, scratch / "before", cache)
    callback = RemineNegatives(
        mined,
        corpus_of_pairs(known),
        rules,
        scratch / "refreshed",
        RemineConfig(every_steps=STEPS // 2),
        known_pairs=known,
    )
    mixture = Mixture(
        [Source.from_pairs("sections", mined.pairs)],
        MixtureConfig(batch_size=BATCH, max_negatives=1, seed=0),
    )
    train(
        encoder,
        RefreshedBatches(mixture, mined, scratch / "refreshed"),
        TrainingConfig(num_steps=STEPS, learning_rate=5e-5, checkpoint_every=10**6),
        loss=InfoNCEConfig(temperature=0.05),
        folder=scratch / "training",
        callbacks=[callback],
        progress=lambda done, total: None,
    )
    table = NegativeTable(mined, scratch / "refreshed")
    table.advance_to_made(STEPS)
    texts = [table.texts(row) for row in range(len(some))]
    fresh = [
        tuple(text for text in now if text not in pair.negatives)
        for now, pair in zip(texts, mined.pairs, strict=True)
    ]
    lines = (scratch / "training" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    found = [row for row in map(json.loads, lines) if "negatives_mined" in row]
    row = {
        "rule": "ANN refresh (default rules)",
        "num_candidates": mined.report.num_candidates,
        "num_negatives": sum(map(len, texts)),
        "num_new": sum(map(len, fresh)),
        "num_pairs": len(some),
        "refreshes": [
            {name: row[name] for name in ("step", "negatives_mined", "negatives_score")}
            for row in found
        ],
        "score_quantiles_before": dict(mined.report.kept.score_quantiles),
        "full_short_none": [
            sum(len(now) == NUM_NEGATIVES for now in texts),
            sum(0 < len(now) < NUM_NEGATIVES for now in texts),
            sum(not now for now in texts),
        ],
        "cpu_seconds": round(time.process_time() - started, 1),
        "read": twenty(some, fresh),
    }
    print(row["rule"], row["num_negatives"], row["num_new"], flush=True)
    return row


if __name__ == "__main__":
    main()
