"""Names of ``PackedBert``'s parameters -> names in transformers' checkpoints."""

from __future__ import annotations

NAMES = {
    "embeddings.word": "embeddings.word_embeddings",
    "embeddings.position": "embeddings.position_embeddings",
    "embeddings.token_type": "embeddings.token_type_embeddings",
    "embeddings.norm": "embeddings.LayerNorm",
}
LAYER_NAMES = {
    "attention.out": "attention.output.dense",
    "attention.norm": "attention.output.LayerNorm",
    "feed_forward.up": "intermediate.dense",
    "feed_forward.down": "output.dense",
    "feed_forward.norm": "output.LayerNorm",
}
QKV_NAMES = tuple(f"attention.self.{part}" for part in ("query", "key", "value"))


def checkpoint_names(own_name: str) -> tuple[str, ...]:
    """Transformers' names for a parameter of ``PackedBert``: three for a fused one."""
    module, _, kind = own_name.rpartition(".")
    if module in NAMES:
        return (f"{NAMES[module]}.{kind}",)
    _, number, part = module.split(".", 2)
    parts = QKV_NAMES if part == "attention.qkv" else (LAYER_NAMES[part],)
    return tuple(f"encoder.layer.{number}.{name}.{kind}" for name in parts)
