"""Tiny configs of every backbone, and models of transformers with random weights."""

from __future__ import annotations

import copy

import torch

SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 64,
         "intermediate_size": 48, "max_position_embeddings": 96}  # fmt: skip
DECODER = {**SIZES, "num_key_value_heads": 2, "head_dim": 8, "pad_token_id": 0}
ROPE = {"rope_type": "default", "rope_theta": 1000.0}

CONFIGS = {
    "bert": {"model_type": "bert", **SIZES, "pad_token_id": 0},
    "roberta": {"model_type": "roberta", **SIZES, "pad_token_id": 1, "type_vocab_size": 1},
    "xlm-roberta": {"model_type": "xlm-roberta", **SIZES, "pad_token_id": 1, "type_vocab_size": 1},
    "gte": {"model_type": "gte", **SIZES, "pad_token_id": 0, "rope_parameters": ROPE},
    "gte-scaled": {"model_type": "gte", **SIZES, "pad_token_id": 0, "type_vocab_size": 0,
                   "rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 1.3}},
    "modernbert": {"model_type": "modernbert", **SIZES, "num_hidden_layers": 4,
                   "local_attention": 8, "global_attn_every_n_layers": 3, "pad_token_id": 0},
    "distilbert": {"model_type": "distilbert", "dim": 32, "n_layers": 2, "n_heads": 4,
                   "hidden_dim": 48, "vocab_size": 64, "max_position_embeddings": 64,
                   "pad_token_id": 0},
    "eurobert": {"model_type": "eurobert", **DECODER},
    "nomic_bert": {"model_type": "nomic_bert", **SIZES, "pad_token_id": 0, "type_vocab_size": 2},
    "t5": {"model_type": "t5", "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2,
           "num_heads": 4, "vocab_size": 64, "relative_attention_num_buckets": 8,
           "relative_attention_max_distance": 16, "feed_forward_proj": "gated-gelu"},
    "qwen2": {"model_type": "qwen2", **DECODER},
    "qwen3": {"model_type": "qwen3", **DECODER},
    "qwen3-bidirectional": {"model_type": "qwen3", **DECODER, "is_causal": False},
    "qwen2-bidirectional": {"model_type": "qwen2", **DECODER, "is_causal": False},
    "qwen2-window": {"model_type": "qwen2", **DECODER, "use_sliding_window": True,
                     "sliding_window": 6, "max_window_layers": 1},
    "mistral": {"model_type": "mistral", **DECODER, "sliding_window": 6},
    "mistral-bidirectional": {"model_type": "mistral", **DECODER, "sliding_window": None,
                              "is_causal": False},
    "llama": {"model_type": "llama", **DECODER},
    "llama-bidirectional": {"model_type": "llama", **DECODER, "is_causal": False},
}  # fmt: skip


def transformers_model(config, *, seed=0):
    """transformers' own model, with weights large enough that every part matters."""
    from opengte.models.architectures import (
        architecture_of,
        transformers_class,
        transformers_config,
    )

    options = dict(architecture_of(config).options or {})
    torch.manual_seed(seed)
    made = copy.deepcopy(transformers_config(config))
    model = transformers_class(config)._from_config(made, attn_implementation="eager", **options)
    generator = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.15)
    return model.eval()


def padded(texts, *, side="right", pad_id=0):
    """(N, L) ids and mask of token id arrays."""
    longest = max(len(text) for text in texts)
    ids = torch.full((len(texts), longest), pad_id)
    mask = torch.zeros((len(texts), longest), dtype=torch.long)
    for i, text in enumerate(texts):
        rows = slice(0, len(text)) if side == "right" else slice(longest - len(text), longest)
        ids[i, rows] = torch.as_tensor(text, dtype=torch.long)
        mask[i, rows] = 1
    return ids, mask


def pooled_by_hand(states, mode):
    """One vector from the (L, C) states of one text."""
    weights = torch.arange(1, len(states) + 1)[:, None].float()
    return {
        "mean": lambda: states.mean(0),
        "cls": lambda: states[0],
        "last_token": lambda: states[-1],
        "weighted_mean": lambda: (states * weights).sum(0) / weights.sum(),
        "max": lambda: states.max(0).values,
        "mean_sqrt_length": lambda: states.sum(0) / len(states) ** 0.5,
    }[mode]()
