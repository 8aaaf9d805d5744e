"""One part of the GPU benchmark in a process of its own; its figures as one line of JSON.

python worker.py PART SETTINGS        (JSON; see ``run.py``)
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
import torch

from opengte.losses.config import ImprovedContrastiveConfig
from opengte.losses.contrastive import improved_contrastive_loss
from opengte.losses.tiled import tiled_contrastive_loss
from opengte.models.bert import PackedBert
from opengte.models.encoder import Encoder, EncoderSettings
from opengte.models.weights import save_encoder
from opengte.records import Batch
from opengte.text.tokenizer import Tokenizer
from opengte.training.config import TrainingConfig
from opengte.training.loop import train

SPECIAL = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3}
TEMPERATURE = 0.01
Row = dict[str, Any]


class Clock:
    """Seconds of steps that the device has finished."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.ends = device, list[float]()

    def tick(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        self.ends.append(time.perf_counter())

    def seconds_per_step(self, skip: int) -> float:
        """Of the median step behind the first ones."""
        return float(np.median(np.diff(self.ends)[skip:]))


def matrix_peak(settings: Row, device: torch.device) -> Row:
    """The fastest bfloat16 product of square matrices, in TFLOP/s."""
    size = settings["size"]
    left, right = (torch.randn(size, size, device=device).bfloat16() for _ in range(2))
    clock = Clock(device)
    for _ in range(settings["rounds"]):
        left @ right
        clock.tick()
    seconds = float(np.diff(clock.ends).min())
    return {"tflops": 2 * size**3 / seconds / 1e12, "seconds": seconds}


def make_tokenizer(num_words: int) -> Tokenizer:
    vocabulary = {**SPECIAL, **{f"w{i}": i + len(SPECIAL) for i in range(num_words)}}
    backend = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="[UNK]"))
    backend.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    backend.add_special_tokens(list(SPECIAL))
    backend.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return Tokenizer(backend, config={"pad_token": "[PAD]"})


def make_encoder(settings: Row) -> Encoder:
    """A BERT with random weights: what it computes takes the time of a trained one."""
    torch.manual_seed(0)
    shape = settings["shape"]
    config = {
        "model_type": "bert",
        "vocab_size": settings["num_words"] + len(SPECIAL),
        "hidden_size": shape["hidden"],
        "num_hidden_layers": shape["layers"],
        "num_attention_heads": shape["hidden"] // 64 or 1,
        "intermediate_size": 4 * shape["hidden"],
        "max_position_embeddings": 512,
        "type_vocab_size": 2,
        "hidden_dropout_prob": settings["dropout"],
        "attention_probs_dropout_prob": settings["dropout"],
    }
    encoder = Encoder(
        PackedBert(config),
        make_tokenizer(settings["num_words"]),
        EncoderSettings(name="random", max_tokens=settings["max_tokens"]),
    )
    encoder.dropout = (settings["dropout"], settings["dropout"])
    return encoder


def batches(settings: Row) -> list[list[tuple[str, str]]]:
    """Pairs of random words: all as long as the limit, or with the lengths of real texts."""
    draw = np.random.default_rng(0)
    longest = settings["max_tokens"] - 2

    def text(scale: float) -> str:
        length = longest
        if settings["lengths"] == "mixed":
            length = int(np.clip(draw.lognormal(np.log(scale), 0.6), 3, longest))
        words = draw.integers(0, settings["num_words"], size=length)
        return " ".join(f"w{word}" for word in words)

    size = settings["batch_size"]
    return [
        sorted(((text(14.0), text(70.0)) for _ in range(size)), key=lambda p: -len(p[1]))
        for _ in range(settings["steps"] + settings["warmup_steps"])
    ]


def train_ours(settings: Row, data: Sequence[Sequence[tuple[str, str]]], clock: Clock) -> list[int]:
    class Fixed:
        fingerprint = "fixed"

        def batch(self, step: int) -> Batch:
            queries, documents = zip(*data[step], strict=True)
            return Batch(
                step=step,
                source="pairs",
                queries=queries,
                positives=documents,
                negatives=((),) * len(queries),
                row_ids=np.arange(len(queries)),
                row_sources=("pairs",) * len(queries),
            )

    config = TrainingConfig(
        num_steps=len(data),
        precision=settings["precision"],
        dropout=settings["dropout"],
        attention_dropout=settings["dropout"],
        weight_decay=0.0,
        micro_batch_tokens=settings["micro_batch_tokens"],
        checkpoint_every=10**6,
    )
    loss = ImprovedContrastiveConfig(temperature=TEMPERATURE)
    with tempfile.TemporaryDirectory() as folder:
        train(
            make_encoder(settings),
            Fixed(),
            config,
            loss=loss,
            folder=Path(folder),
            progress=lambda done, total: clock.tick(),
        )
        lines = (Path(folder) / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["num_tokens"] for line in lines]


def train_peer(settings: Row, data: Sequence[Sequence[tuple[str, str]]], clock: Clock) -> list[int]:
    """sentence-transformers' model and loss in a plain loop: what its trainer does, and no more.

    bfloat16 by autocast, torch's scaled-dot-product attention, fused AdamW, clipping at 1.
    """
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

    device = clock.device
    with tempfile.TemporaryDirectory() as folder:
        save_encoder(make_encoder(settings), Path(folder) / "model")
        dropout = settings["dropout"]
        kwargs = {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
        model = SentenceTransformer(
            str(Path(folder) / "model"), device=str(device), config_kwargs=kwargs
        )
    model.max_seq_length = settings["max_tokens"]
    loss = MultipleNegativesRankingLoss(
        model,
        scale=1 / TEMPERATURE,
        directions=("query_to_doc", "query_to_query", "doc_to_query", "doc_to_doc"),
        partition_mode="joint",
    )
    model.train()
    fused = device.type == "cuda"
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-5, weight_decay=0.0, fused=fused)
    tokenize = getattr(model, "preprocess", None) or model.tokenize
    tokens = []
    for pairs in data:
        sides = [tokenize(list(side)) for side in zip(*pairs, strict=True)]
        features = [
            {k: v.to(device) for k, v in side.items() if isinstance(v, torch.Tensor)}
            for side in sides
        ]
        tokens.append(sum(int(side["attention_mask"].sum()) for side in features))
        with torch.autocast(
            device.type, torch.bfloat16, enabled=settings["precision"] != "float32"
        ):
            value = loss(features, torch.empty(0, device=device))
        value.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        clock.tick()
    return tokens


def training(settings: Row, device: torch.device) -> Row:
    """Useful tokens a second, the share of the matrix peak they are, and peak memory."""
    run = train_ours if settings["system"] == "opengte" else train_peer
    clock, skip = Clock(device), settings["warmup_steps"]
    tokens = run(settings, batches(settings), clock)
    per_step = float(np.mean(tokens[skip:]))
    seconds = clock.seconds_per_step(skip - 1)
    shape, length = settings["shape"], settings["max_tokens"]
    weights = 12 * shape["hidden"] ** 2 * shape["layers"]
    # Forward 2 and backward 4 a weight; attention's two products, both ways, of full texts.
    flops = per_step * (6 * weights + 12 * shape["layers"] * shape["hidden"] * length)
    return {
        "tokens_per_second": per_step / seconds,
        "seconds_per_step": seconds,
        "tflops": flops / seconds / 1e12 if settings["lengths"] == "full" else None,
        "peak_gib": _peak_gib(device),
    }


def contrastive(settings: Row, device: torch.device) -> Row:
    """Seconds and extra memory of the loss alone, value and gradient."""
    size, dimensions = settings["pairs"], settings["dimensions"]
    generator = torch.Generator().manual_seed(0)
    queries = torch.randn(size, dimensions, generator=generator)
    documents = queries + torch.randn(size, dimensions, generator=generator)
    inputs = [x.to(device).requires_grad_() for x in (queries, documents)]
    loss = _loss(settings["way"])
    clock = Clock(device)
    clock.tick()
    before = torch.cuda.memory_allocated() if device.type == "cuda" else 0
    for _ in range(settings["rounds"]):
        value = loss(*inputs)
        torch.autograd.grad(value, inputs)
        clock.tick()
    peak = torch.cuda.max_memory_allocated() - before if device.type == "cuda" else 0
    seconds = clock.seconds_per_step(1)
    return {"seconds": seconds, "extra_mib": peak / 2**20, "loss": float(value.detach())}


def _loss(way: str) -> Callable[..., torch.Tensor]:
    if way == "dense":
        return lambda q, d: improved_contrastive_loss(q, d, temperature=TEMPERATURE)
    kernel, products = way.split()
    return lambda q, d: tiled_contrastive_loss(
        q, d, temperature=TEMPERATURE, products=products, kernel=kernel
    )


def _peak_gib(device: torch.device) -> float:
    return torch.cuda.max_memory_allocated(device) / 2**30 if device.type == "cuda" else 0.0


PARTS = {"matrix_peak": matrix_peak, "training": training, "loss": contrastive}


def main() -> None:
    part, settings = sys.argv[1], json.loads(sys.argv[2])
    device = torch.device(settings.pop("device"))
    if device.type == "cuda":
        torch.cuda.set_device(0)
    print(json.dumps(PARTS[part](settings, device)))


if __name__ == "__main__":
    main()
