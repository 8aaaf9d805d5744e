"""The word embedding's size: padded to a multiple, or grown for new tokens.

mGTE and ModernBERT pad the table to a multiple of 64, which matrix units of GPUs like.
"""

from __future__ import annotations

import torch
from torch import nn

from opengte.errors import ConfigError
from opengte.models.backbone import Backbone


def padded_size(num_tokens: int, *, multiple: int = 64) -> int:
    """The next multiple of ``multiple`` from ``num_tokens`` on."""
    if multiple < 1:
        raise ConfigError(f"multiple must be >= 1, got {multiple}")
    return -(-num_tokens // multiple) * multiple


def resize_vocabulary(backbone: Backbone, num_tokens: int, *, multiple: int = 64) -> int:
    """Give the word embedding rows for ``num_tokens`` tokens, padded to a multiple.

    New rows are the mean of the old ones: a new token begins as an average one. Rows are never
    taken away.

    Returns:
        The new number of rows.

    Raises:
        ConfigError: fewer rows than there are now.
    """
    size = padded_size(num_tokens, multiple=multiple)
    table = backbone.word_embedding
    if size < table.num_embeddings:
        raise ConfigError(f"the vocabulary has {table.num_embeddings} rows, {size} are fewer")
    with torch.no_grad():
        average = table.weight.mean(0, keepdim=True)
        added = average.expand(size - table.num_embeddings, -1)
        table.weight = nn.Parameter(torch.cat([table.weight, added]))
    table.num_embeddings = size
    backbone.config["vocab_size"] = size
    inner = getattr(getattr(backbone, "model", None), "config", None)
    if inner is not None:
        inner.vocab_size = size
    return size
