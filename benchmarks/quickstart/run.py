"""What do joint loss, alpha, mined negatives and interpolation each add to a plain run?

Every arm trains on equal tokens, from the same weights, on the same split of a repository; arms
add one mechanism each. The gain of an arm is measured per query against the plain run and pooled
over repositories and seeds by a bootstrap over groups and seeds.

    python benchmarks/quickstart/run.py --json benchmarks/quickstart/results.json
    python benchmarks/quickstart/run.py --quick

A run that was stopped goes on: finished (repository, seed) cells are kept beside the JSON file.
"""

from __future__ import annotations

import argparse
import functools
import importlib.metadata
import io
import json
import os
import platform
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64")  # read when torch is imported
os.environ.setdefault("LRU_CACHE_CAPACITY", "32")

import numpy as np

from opengte.atomic import write_json
from opengte.data.mixture import Mixture, MixtureConfig
from opengte.data.readers import read_pairs
from opengte.loading import find_model
from opengte.losses.config import ImprovedContrastiveConfig, InfoNCEConfig, LossConfig
from opengte.metrics.bootstrap import paired_difference
from opengte.mining.mine import mine_negatives
from opengte.models.encoder import Encoder
from opengte.models.merging import interpolate
from opengte.models.weights import load_encoder
from opengte.pipeline.console import Console
from opengte.pipeline.environment import cpu_features, source_commit
from opengte.pipeline.execute import prepare_process
from opengte.pipeline.measure import HeldOutSet, measure
from opengte.pipeline.pair_sources import make_sources
from opengte.pipeline.recipe import load_recipe
from opengte.pipeline.runner import StageContext
from opengte.pipeline.stages import corpus as corpus_stage
from opengte.pipeline.stages.evaluate import general_slice
from opengte.records import Pair
from opengte.training.config import TrainingConfig
from opengte.training.loop import train
from opengte.training.token_count import steps_for_tokens

REPOSITORIES = ("networkx", "sympy", "docutils", "scikit-learn")
ARMS = ("base", "plain", "joint", "alpha", "mined", "final")
MEANING = {
    "plain": "InfoNCE in both directions, sources by size, no hard negatives",
    "joint": "plain with GTE's joint loss in place of InfoNCE",
    "alpha": "plain with sources drawn by size^0.5",
    "mined": "alpha for 60 % of the tokens, then mined hard negatives for the rest",
    "final": "mined or its stage 1, interpolated with base: dev chooses (the quickstart)",
}
COMPARED_WITH = {"joint": "plain", "alpha": "plain", "mined": "alpha", "final": "mined"}
LEARNING_RATE = 1e-4
"""Twice the recipe's: an arm takes a dozen steps, not a hundred and sixty."""
STAGE_TWO_RATE = 5e-5
BATCH = 32
TEMPERATURE = 0.05
MAX_TOKENS = 128
WEIGHTS = (1.0, 0.7)


def main() -> None:
    """Run the cells that are missing, then pool."""
    prepare_process()
    options = parse()
    target = options.json
    cells = target.with_suffix(".cells") if target else Path(tempfile.mkdtemp())
    for seed in range(options.seeds):
        for repository in options.repositories:
            path = cells / f"{repository}-{seed}-{options.tokens}.json"
            if not path.exists():
                write_json(path, run_cell(repository, seed, options))
                print_cell(json.loads(path.read_text()))
    found = [
        json.loads((cells / f"{r}-{s}-{options.tokens}.json").read_text())
        for r in options.repositories
        for s in range(options.seeds)
    ]
    report = pool(found, options)
    print_report(report)
    if target:
        write_json(target, report)


def parse() -> argparse.Namespace:
    """The command line; ``--quick`` is one repository, one seed, few tokens."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=Path, default=None)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=40_000, help="training tokens of an arm")
    parser.add_argument("--queries", type=int, default=120)
    parser.add_argument("--documents", type=int, default=400)
    parser.add_argument("--repositories", nargs="*", default=list(REPOSITORIES))
    options = parser.parse_args()
    if options.quick:
        options.repositories, options.seeds, options.tokens = ["networkx"], 1, 30_000
        options.queries, options.documents = 100, 300
    return options


def run_cell(repository: str, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """All arms on one repository with one seed."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = build_corpus(repository, seed, folder, options)
        return measure_arms(repository, seed, data, options.tokens)


def build_corpus(repository: str, seed: int, folder: Path, options: argparse.Namespace) -> Path:
    """Split a package's source as ``gte quickstart --data`` would."""
    distribution = importlib.metadata.distribution(repository)
    top = {"scikit-learn": "sklearn"}.get(repository, repository)
    recipe = load_recipe(
        "quickstart",
        extra={
            "stages": {
                "corpus": {
                    "paths": [str(distribution.locate_file(top))],
                    "packages": [],
                    "standard_library": False,
                    "max_pairs": 2_000,
                    "test_queries": options.queries,
                    "dev_queries": options.queries // 2,
                    "pool_documents": options.documents,
                    "dev_pool_documents": options.documents // 2,
                }
            }
        },
    )
    context = StageContext(
        name="corpus",
        run_folder=folder,
        work=folder / "work",
        output=folder / "data",
        seed=seed,
        backbone=recipe.backbone,
        base_folder=folder,
        results={},
        console=Console(io.StringIO()),
        load_encoder=lambda path, tokens: load_encoder(path, max_tokens=tokens),
    )
    corpus_stage.run(recipe.stages["corpus"], context)
    return context.output


def measure_arms(repository: str, seed: int, data: Path, tokens: int) -> dict[str, Any]:
    """Train and measure every arm on one split."""
    pairs = list(read_pairs(data / "train.jsonl"))
    test = HeldOutSet.read(data / "test", "test")
    dev = HeldOutSet.read(data / "dev", "dev")
    general = HeldOutSet.read(general_slice(), "dev")
    base = fresh()
    infonce = InfoNCEConfig(temperature=TEMPERATURE, direction="symmetric_mean")
    joint = ImprovedContrastiveConfig(temperature=TEMPERATURE)
    started = time.process_time()
    arms: dict[str, Encoder] = {
        "base": base,
        "plain": trained(fresh(), pairs, infonce, tokens, seed, alpha=1.0),
        "joint": trained(fresh(), pairs, joint, tokens, seed, alpha=1.0),
        "alpha": trained(fresh(), pairs, infonce, tokens, seed, alpha=0.5),
    }
    first = trained(fresh(), pairs, infonce, int(tokens * 0.6), seed, alpha=0.5)
    with tempfile.TemporaryDirectory() as folder:
        mined = list(mine_negatives(pairs, None, first, folder=folder).pairs)
    second = trained(
        copied(first), mined, infonce, int(tokens * 0.4), seed, alpha=0.5, rate=STAGE_TWO_RATE
    )
    arms["mined"] = second
    arms["final"], kept = chosen({"stage 1": first, "stage 2": second}, base, dev, general)
    return {
        "repository": repository,
        "seed": seed,
        "num_train_pairs": len(pairs),
        "clusters": [test.groups[query.id] for query in test.queries],
        "kept": kept,
        "cpu_seconds": round(time.process_time() - started, 1),
        "mrr@10": {name: values(test, encoder) for name, encoder in arms.items()},
    }


def fresh() -> Encoder:
    """The base model."""
    return load_encoder(find_model("all-MiniLM-L6-v2"), max_tokens=MAX_TOKENS)


def copied(encoder: Encoder) -> Encoder:
    """An encoder of its own with equal weights."""
    return interpolate(encoder, encoder, 1.0)


def trained(
    encoder: Encoder,
    pairs: Sequence[Pair],
    loss: LossConfig,
    tokens: int,
    seed: int,
    *,
    alpha: float,
    rate: float = LEARNING_RATE,
) -> Encoder:
    """``encoder`` after about ``tokens`` training tokens."""
    mixture = Mixture(
        make_sources(pairs),
        MixtureConfig(alpha=alpha, batch_size=BATCH, seed=seed, max_negatives=1),
    )
    config = TrainingConfig(learning_rate=rate, seed=seed, checkpoint_every=10**6)
    steps = steps_for_tokens(mixture, encoder, config, max_tokens=tokens)
    with tempfile.TemporaryDirectory() as folder:
        train(
            encoder,
            mixture,
            replace(config, num_steps=steps),
            loss=loss,
            folder=Path(folder),
            progress=lambda done, total: None,
        )
    return encoder


def chosen(
    candidates: Mapping[str, Encoder], base: Encoder, dev: HeldOutSet, general: HeldOutSet
) -> tuple[Encoder, str]:
    """The mixture with the base that dev prefers, at most one general point worse."""
    floor = base_general_score() - 0.01
    rows = [(float(np.mean(values(dev, base))), "base", base)]
    for name, candidate in candidates.items():
        for weight in WEIGHTS:
            mixed = candidate if weight == 1.0 else interpolate(candidate, base, weight)
            rows.append((float(np.mean(values(dev, mixed))), f"{weight:g} {name}", mixed))
    for _, name, encoder in sorted(rows, key=lambda row: -row[0]):
        if encoder is base or np.mean(values(general, encoder)) >= floor:
            return encoder, name
    raise AssertionError("the base model loses nothing against itself")


@functools.cache
def base_general_score() -> float:
    """MRR@10 of the base model on the general slice's dev half; measured once."""
    return float(np.mean(values(HeldOutSet.read(general_slice(), "dev"), fresh())))


def values(held_out: HeldOutSet, encoder: Encoder) -> list[float]:
    """MRR@10 of every query."""
    found = measure(held_out, encoder, with_masked=False).per_query["dense"]["mrr@10"]
    return [round(found[query.id], 5) for query in held_out.queries]


def pool(cells: Sequence[dict[str, Any]], options: argparse.Namespace) -> dict[str, Any]:
    """Means and paired differences to the plain run, a repository and over all of them."""
    rows = []
    for name in [*options.repositories, "all"]:
        part = [cell for cell in cells if name in ("all", cell["repository"])]
        clusters = [f"{c['repository']}/{c['seed']}/{g}" for c in part for g in c["clusters"]]
        joined = {arm: [v for c in part for v in c["mrr@10"][arm]] for arm in ARMS}
        row: dict[str, Any] = {"repository": name, "num_queries": len(clusters)}
        for arm in ARMS:
            row[arm] = {"mrr@10": round(float(np.mean(joined[arm])), 4)}
            if arm not in COMPARED_WITH:
                continue
            for other, label in (("plain", "against_plain"), (COMPARED_WITH[arm], "added")):
                found = paired_difference(joined[arm], joined[other], clusters)
                row[arm][label] = [round(x, 4) for x in (found.mean, found.low, found.high)]
        gain = paired_difference(joined["final"], joined["base"], clusters)
        row["gain"] = [round(x, 4) for x in (gain.mean, gain.low, gain.high)]
        rows.append(row)
    return {
        "machine": {"cpu_features": cpu_features(), "platform": platform.platform()},
        "commit": source_commit(),
        "settings": {
            "tokens_per_arm": options.tokens,
            "seeds": options.seeds,
            "batch": BATCH,
            "learning_rate": LEARNING_RATE,
            "temperature": TEMPERATURE,
            "arms": MEANING,
            "kept": [f"{c['repository']}/{c['seed']}: {c['kept']}" for c in cells],
        },
        "ratios": {},
        "goals": {},
        "rows": rows,
    }


def print_cell(cell: Mapping[str, Any]) -> None:
    """One line a cell, while the others run."""
    means = "  ".join(f"{arm} {np.mean(cell['mrr@10'][arm]):.4f}" for arm in ARMS)
    print(f"{cell['repository']:14} seed {cell['seed']}  {means}  kept {cell['kept']}", flush=True)


def print_report(report: Mapping[str, Any]) -> None:
    """The pooled table."""
    for row in report["rows"]:
        print(f"\n{row['repository']} ({row['num_queries']} queries)")
        for arm in ARMS:
            low_high = row[arm].get("against_plain")
            more = ""
            if low_high:
                mean, low, high = low_high
                more = f"  against plain {mean:+.4f} [{low:+.4f}, {high:+.4f}]"
            print(f"  {arm:6} {row[arm]['mrr@10']:.4f}{more}")


if __name__ == "__main__":
    main()
