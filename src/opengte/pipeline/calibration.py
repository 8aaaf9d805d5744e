"""A time budget -> a token budget, measured once.

The file it writes is an input like any other: a run that goes on, or is started again, never
measures anew, so that it takes the same steps.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opengte.atomic import write_json

if TYPE_CHECKING:
    from opengte.models.encoder import Encoder

PROBE_TEXTS = 32
PROBE_WORDS = 70
PROBE_SECONDS = 4.0
EMBEDDED_TOKENS = 2_000_000
"""What evaluation, mining and indexing of the default corpus read, in tokens."""
INFERENCE_SPEEDUP = 3.0
"""A forward pass alone against forward and backward, per token."""
OTHER_SECONDS = 60.0
"""Reading, splitting, export, report."""
LEAST_TOKENS = 50_000


def token_budget(minutes: float, model: Path, file: Path, *, max_tokens: int) -> int:
    """Training tokens that fit into ``minutes``, read from ``file`` if it is there.

    Args:
        minutes: of the whole run.
        model: folder of the model whose speed counts.
        file: where the measurement is kept.
        max_tokens: longest input.
    """
    if file.exists():
        kept: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        if kept["minutes"] == minutes:
            return int(kept["max_training_tokens"])
    speed = training_tokens_per_second(model, max_tokens=max_tokens)
    seconds = minutes * 60 - OTHER_SECONDS - EMBEDDED_TOKENS / (speed * INFERENCE_SPEEDUP)
    tokens = max(LEAST_TOKENS, int(seconds * speed))
    write_json(
        file,
        {
            "minutes": minutes,
            "tokens_per_second": round(speed, 1),
            "max_training_tokens": tokens,
        },
    )
    return tokens


def training_tokens_per_second(model: Path, *, max_tokens: int) -> float:
    """Tokens a second of forward and backward passes of a model's folder, as it comes."""
    from opengte.models.weights import load_encoder

    return measured_tokens_per_second(load_encoder(model, max_tokens=max_tokens))


def measured_tokens_per_second(encoder: Encoder) -> float:
    """Tokens a second of forward and backward passes on this machine, now."""
    from opengte.models.packing import pack

    encoder.train()
    texts = [
        " ".join(f"w{(i * 7 + j) % 97}" for j in range(PROBE_WORDS)) for i in range(PROBE_TEXTS)
    ]
    packed = pack(encoder.tokenize(texts))
    encoder(packed).sum().backward()  # the first pass sets buffers up
    started = time.monotonic()
    rounds = 0
    while time.monotonic() - started < PROBE_SECONDS:
        encoder(packed).sum().backward()
        rounds += 1
    return rounds * len(packed.token_ids) / (time.monotonic() - started)
