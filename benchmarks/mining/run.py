"""Do mined negatives beat random ones, and which rule earns its place?

    python benchmarks/mining/run.py --json benchmarks/mining/results.json [--minutes 5]
    python benchmarks/mining/run.py --quick

Corpora, arms and settings stand in CORPORA.md, written before the first run. The corpora are read
from the shared folder (``OPENGTE_SHARED``, else ``../shared`` beside the repository). Finished
(corpus, arm, seed) cells are kept beside the JSON file, so a run that was stopped goes on;
``--minutes`` stops it after the cell in which they are over (exit code 3 while cells are missing).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np

from opengte.atomic import write_json
from opengte.contracts import TextEncoder
from opengte.data.mixture import Mixture, MixtureConfig, Source
from opengte.data.near_duplicates import near_duplicate_groups
from opengte.data.readers import read_pairs
from opengte.data.splits import split_by_group
from opengte.loading import find_model
from opengte.losses.config import ImprovedContrastiveConfig
from opengte.metrics.bootstrap import holm, paired_difference, paired_p_value
from opengte.metrics.ranking import evaluate_run
from opengte.mining.bm25_teacher import BM25Teacher
from opengte.mining.corpus import corpus_of_pairs
from opengte.mining.mine import mine_negatives
from opengte.mining.rules import MiningRules
from opengte.mining.teachers import Teacher
from opengte.models.encoder import Encoder
from opengte.models.weights import load_encoder
from opengte.pipeline.environment import cpu_features, source_commit
from opengte.records import Pair
from opengte.search.exact import ExactIndex
from opengte.training.config import TrainingConfig
from opengte.training.loop import train

ROOT = Path(__file__).resolve().parents[2]
CORPORA = (
    "python_docstring_code",
    "debian_packages",
    "cpp_docs_sections",
    "medquad",
    "stackexchange_title_answer",
)
NUM_NEGATIVES = 3
BARE = MiningRules(
    num_negatives=NUM_NEGATIVES, perc_pos=None, near_duplicate=None, exclude_answers=False
)
DEFAULT = MiningRules(num_negatives=NUM_NEGATIVES)
ARMS: dict[str, MiningRules | None] = {
    "random": None,
    "bm25": DEFAULT,
    "top": BARE,
    "window": replace(BARE, first_rank=10, last_rank=50, sampling="random"),
    "max_score": replace(BARE, max_score=0.7),
    "margin": replace(BARE, absolute_margin=0.05),
    "perc_pos": replace(BARE, perc_pos=0.95),
    "near_duplicate": replace(BARE, near_duplicate=0.8),
    "answers": replace(BARE, exclude_answers=True),
    "default": DEFAULT,
    "default_drawn": replace(DEFAULT, sampling="random", top_k=30),
}
BATCH, NUM_STEPS, MAX_TOKENS = 32, 10, 48
LEARNING_RATE, TEMPERATURE = 1e-4, 0.05
NUM_READ = 8_000
NUM_TEST, NUM_DEV = 1_600, 500  # pairs that go to each part, and so about the size of its pool
TEST_QUERIES, DEV_QUERIES = 1_000, 200


@dataclass(frozen=True)
class HeldOut:
    """Queries, the pool they are asked of, and what answers them."""

    queries: list[str]
    clusters: list[str]
    pool: list[str]
    qrels: dict[str, dict[str, int]]


@dataclass(frozen=True)
class Corpus:
    """One corpus, split: pairs to train on, pairs whose documents are mined, and two test beds."""

    name: str
    train: list[Pair]
    known: list[Pair]
    dev: HeldOut
    test: HeldOut


def main() -> None:
    """Run the cells that are missing, then pool."""
    options = parse()
    cells = options.json.with_suffix(".cells") if options.json else Path(tempfile.mkdtemp())
    if not fill(cells, options):
        raise SystemExit(3)
    report = pool(cells, options)
    print_report(report)
    if options.json:
        write_json(options.json, report)


def fill(cells: Path, options: argparse.Namespace) -> bool:
    """Run missing cells, one seed of all corpora after another; whether all are there."""
    started = time.monotonic()
    corpora: dict[str, Corpus] = {}
    for seed in range(options.seeds):
        for name in options.corpora:
            for arm in arms_of(seed, options):
                path = cell_path(cells, name, arm, seed, options)
                if path.exists():
                    continue
                if options.minutes and time.monotonic() - started > 60 * options.minutes:
                    return False
                if name not in corpora:
                    corpora[name] = read_corpus(name, options)
                cell = run_cell(corpora[name], arm, seed, cells / "mined" / name, options)
                write_json(path, cell)
                print(
                    f"{name:28} {arm:15} seed {seed}  dev {np.mean(cell['dev']):.4f}  "
                    f"test {np.mean(cell['test']):.4f}  filled {cell['filled']:.1%}  "
                    f"{cell['cpu_seconds']:.0f} s",
                    flush=True,
                )
    return True


def arms_of(seed: int, options: argparse.Namespace) -> list[str]:
    """The base model is the same for every seed: it is measured with the first."""
    return [*(["base"] if seed == 0 else []), *options.arms]


def cell_path(cells: Path, name: str, arm: str, seed: int, options: argparse.Namespace) -> Path:
    """Where one cell is kept."""
    seed = 0 if arm == "base" else seed
    return cells / f"{name}-{arm}-{seed}-{options.steps}.json"


def parse() -> argparse.Namespace:
    """The command line; ``--quick`` is one corpus, one seed, three arms, few steps."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=Path, default=None)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=NUM_STEPS)
    parser.add_argument("--minutes", type=float, default=None, help="stop after so many")
    parser.add_argument("--corpora", nargs="*", default=list(CORPORA))
    parser.add_argument("--arms", nargs="*", default=list(ARMS), choices=list(ARMS))
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    options.read = NUM_READ
    if options.quick:
        options.corpora, options.seeds, options.steps = ["medquad"], 1, 6
        options.arms, options.read = ["random", "top", "default"], 3_000
    return options


def read_corpus(name: str, options: argparse.Namespace) -> Corpus:
    """A draw of the corpus, the same for all seeds, split by near-duplicate components."""
    shared = Path(os.environ.get("OPENGTE_SHARED", ROOT.parent / "shared"))
    found = sorted((shared / "data" / "pairs").glob(f"{name}.jsonl*"))
    if not found:
        raise SystemExit(f"{name}.jsonl is not in {shared / 'data' / 'pairs'}")
    pairs = list(read_pairs(found[0]))
    rows = np.random.default_rng(0).permutation(len(pairs))[: options.read].tolist()
    drawn = [pairs[row] for row in rows]
    components = [
        near_duplicate_groups([pair.query for pair in drawn]),
        near_duplicate_groups([pair.positive for pair in drawn]),
    ]
    split = split_by_group(
        [str(label) for label in components[1]], components, num_test=NUM_TEST, num_dev=NUM_DEV
    )
    num_train = BATCH * options.steps
    if len(split.train) < num_train:
        raise SystemExit(f"{name} leaves {len(split.train)} training pairs, {num_train} are needed")
    documents = components[1].tolist()
    known = [drawn[row] for row in split.train.tolist()]
    return Corpus(
        name,
        known[:num_train],
        known,
        hold_out(drawn, split.dev.tolist(), documents, DEV_QUERIES),
        hold_out(drawn, split.test.tolist(), documents, TEST_QUERIES),
    )


def hold_out(
    pairs: Sequence[Pair], rows: Sequence[int], components: Sequence[int], num_queries: int
) -> HeldOut:
    """The first queries of a part; every document that some pair of the part names answers it."""
    number = {text: str(i) for i, text in enumerate(dict.fromkeys(pairs[r].positive for r in rows))}
    answers: dict[str, dict[str, int]] = {}
    clusters: dict[str, str] = {}
    for row in rows:
        answers.setdefault(pairs[row].query, {})[number[pairs[row].positive]] = 1
        clusters.setdefault(pairs[row].query, str(components[row]))
    queries = list(answers)[:num_queries]
    return HeldOut(
        queries,
        [clusters[query] for query in queries],
        list(number),
        {str(i): answers[query] for i, query in enumerate(queries)},
    )


def run_cell(
    corpus: Corpus, arm: str, seed: int, folder: Path, options: argparse.Namespace
) -> dict[str, Any]:
    """Mine, train and measure one arm with one seed.

    Two arms that leave the same negatives are the same training: it is done once.
    """
    started = time.process_time()
    encoder = fresh(options.device)
    filled, pairs = 0.0, []
    if arm != "base":
        pairs, filled = with_negatives(corpus, arm, seed, encoder, folder)
    known = folder / "trained" / f"{digest(pairs)}-{seed}-{options.steps}.json"
    if known.exists():
        scores = json.loads(known.read_text())
    else:
        if pairs:
            learn(encoder, pairs, seed, options.steps)
        scores = {"dev": ndcg(encoder, corpus.dev), "test": ndcg(encoder, corpus.test)}
        write_json(known, scores)
    return {
        "corpus": corpus.name,
        "arm": arm,
        "seed": seed,
        "filled": filled,
        **scores,
        "dev_clusters": corpus.dev.clusters,
        "test_clusters": corpus.test.clusters,
        "cpu_seconds": round(time.process_time() - started, 1),
    }


def digest(pairs: Sequence[Pair]) -> str:
    """The same for the same pairs with the same negatives."""
    facts = [(pair.query, pair.positive, pair.negatives) for pair in pairs]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:24]


def fresh(device: str) -> Encoder:
    """The base model."""
    return load_encoder(find_model("all-MiniLM-L6-v2"), max_tokens=MAX_TOKENS, device=device)


def with_negatives(
    corpus: Corpus, arm: str, seed: int, encoder: TextEncoder, folder: Path
) -> tuple[list[Pair], float]:
    """The training pairs with three negatives each, and the share that had to be filled."""
    rules = ARMS[arm]
    mined: Sequence[Pair] = corpus.train
    if rules is not None:
        code = corpus.name == "python_docstring_code"
        teacher: Teacher | TextEncoder = encoder
        if arm == "bm25":
            teacher = BM25Teacher(tokenizer="code" if code else "words")
        mined = mine_negatives(
            corpus.train,
            corpus_of_pairs(corpus.known),
            teacher,
            replace(rules, seed=seed),
            folder=folder / f"{arm}-{seed}",
            known_pairs=corpus.known,
            cache_folder=folder / "corpus",
        ).pairs
    rng = np.random.default_rng(seed)
    documents = [document.text for document in corpus_of_pairs(corpus.known)]
    answers: dict[str, set[str]] = {}
    for pair in corpus.known:
        answers.setdefault(pair.query, set()).add(pair.positive)
    complete, missing = [], 0
    for pair in mined:
        negatives = list(pair.negatives)
        missing += NUM_NEGATIVES - len(negatives)
        while len(negatives) < NUM_NEGATIVES:
            text = documents[int(rng.integers(len(documents)))]
            if text not in answers[pair.query] and text not in negatives:
                negatives.append(text)
        complete.append(replace(pair, negatives=tuple(negatives), negative_scores=()))
    return complete, missing / (NUM_NEGATIVES * len(complete)) if rules is not None else 0.0


def learn(encoder: Encoder, pairs: Sequence[Pair], seed: int, num_steps: int) -> None:
    """Equal steps of equal groups for every arm."""
    mixture = Mixture(
        [Source.from_pairs("pairs", pairs)], MixtureConfig(batch_size=BATCH, seed=seed)
    )
    config = TrainingConfig(
        num_steps=num_steps, learning_rate=LEARNING_RATE, seed=seed, checkpoint_every=10**6
    )
    with tempfile.TemporaryDirectory() as folder:
        train(
            encoder,
            mixture,
            config,
            loss=ImprovedContrastiveConfig(temperature=TEMPERATURE),
            folder=Path(folder),
            progress=lambda done, total: None,
        )


def ndcg(encoder: TextEncoder, part: HeldOut) -> list[float]:
    """nDCG@10 of every query."""
    index = ExactIndex(encoder.encode(part.pool, kind="document"))
    scores, rows = index.search(encoder.encode(part.queries, kind="query"), 10)
    run = {
        str(i): {str(row): float(score) for row, score in zip(r, s, strict=True)}
        for i, (r, s) in enumerate(zip(rows.tolist(), scores.tolist(), strict=True))
    }
    found = evaluate_run(part.qrels, run, ("ndcg@10",))["ndcg@10"]
    return [round(found[str(i)], 5) for i in range(len(part.queries))]


def pool(cells: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Means, paired differences to random negatives, and both pooled over corpora."""
    rows = []
    for part in ("dev", "test"):
        values: dict[str, list[np.ndarray]] = {arm: [] for arm in ["base", *options.arms]}
        clusters: list[str] = []
        for name in options.corpora:
            for arm in values:
                found = [
                    json.loads(cell_path(cells, name, arm, seed, options).read_text())
                    for seed in range(options.seeds)
                ]
                values[arm].append(np.array([cell[part] for cell in found]))
            own = [f"{name}/{label}" for label in found[0][f"{part}_clusters"]]
            clusters += own
            last = {arm: parts[-1] for arm, parts in values.items()}
            rows += compare(name, part, last, own)
        joined = {arm: np.concatenate(parts, axis=1) for arm, parts in values.items()}
        rows += compare("all", part, joined, clusters)
    return {
        "machine": {"cpu_features": cpu_features(), "platform": platform.platform()},
        "commit": source_commit(),
        "settings": {
            "seeds": options.seeds,
            "steps": options.steps,
            "batch": BATCH,
            "num_negatives": NUM_NEGATIVES,
            "learning_rate": LEARNING_RATE,
            "temperature": TEMPERATURE,
            "max_tokens": MAX_TOKENS,
            "num_read": options.read,
        },
        "filled": shares_filled(cells, options),
        "ratios": {},
        "goals": {},
        "rows": rows,
    }


def shares_filled(cells: Path, options: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Share of negatives that a rule did not leave and random documents replaced."""
    return {
        name: {
            arm: float(
                np.mean(
                    [
                        json.loads(cell_path(cells, name, arm, seed, options).read_text())["filled"]
                        for seed in range(options.seeds)
                    ]
                ).round(4)
            )
            for arm in options.arms
        }
        for name in options.corpora
    }


def compare(
    name: str, part: str, values: Mapping[str, np.ndarray], clusters: Sequence[str]
) -> list[dict[str, Any]]:
    """One row an arm; Holm's correction over the arms of one table."""
    random = values["random"]
    others = [arm for arm in values if arm not in ("base", "random")]
    p_values = holm([paired_p_value(values[arm], random, clusters) for arm in others])
    rows = []
    for arm, found in values.items():
        row: dict[str, Any] = {
            "corpus": name,
            "part": part,
            "arm": arm,
            "num_queries": found.shape[1],
            "ndcg@10": round(float(found.mean()), 4),
        }
        if arm != "random":
            gain = paired_difference(found, random, clusters)
            row["against_random"] = [round(x, 4) for x in (gain.mean, gain.low, gain.high)]
        if arm in others:
            row["p_holm"] = round(p_values[others.index(arm)], 4)
        rows.append(row)
    return rows


def print_report(report: Mapping[str, Any]) -> None:
    """The tables."""
    for row in report["rows"]:
        if row["arm"] == "base":
            print(f"\n{row['corpus']}, {row['part']}, {row['num_queries']} queries")
        line = f"  {row['arm']:15} {row['ndcg@10']:.4f}"
        if "against_random" in row:
            mean, low, high = row["against_random"]
            line += f"  against random {mean:+.4f} [{low:+.4f}, {high:+.4f}]"
        if "p_holm" in row:
            line += f"  p {row['p_holm']:.3f}"
        print(line)


if __name__ == "__main__":
    main()
