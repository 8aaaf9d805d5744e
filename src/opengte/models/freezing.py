"""Parts of an encoder that shall not learn.

E5 (Wang et al. 2022) keeps position embeddings as they are, so that training on 128 tokens does
not spoil reading 512.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from torch import nn

from opengte.errors import ConfigError
from opengte.models.encoder import Encoder

WORDS = re.compile(r"(word|word_embeddings|embed_tokens|tok_embeddings|shared)\.weight$")
POSITIONS = re.compile(r"(embeddings\.position|position_embeddings)\.weight$")
LAYER = re.compile(r"(?:layers|layer|block)\.(\d+)\.")


def freeze(
    encoder: Encoder,
    *,
    positions: bool = False,
    words: bool = False,
    first_layers: int = 0,
    backbone: bool = False,
) -> list[str]:
    """Stop gradients to parts of an encoder.

    Args:
        encoder: changed in place.
        positions: learned position embeddings.
        words: the word embedding.
        first_layers: so many layers from the input on.
        backbone: everything but the heads.

    Returns:
        Names of the parameters that were frozen.

    Raises:
        ConfigError: the backbone does not have what shall be frozen.
    """
    chosen = {
        "positions": [n for n, _ in _named(encoder) if positions and POSITIONS.search(n)],
        "words": [n for n, _ in _named(encoder) if words and WORDS.search(n)],
        "layers": [n for n, _ in _named(encoder) if -1 < _layer(n) < first_layers],
        "backbone": [n for n, _ in _named(encoder) if backbone],
    }
    asked = {"positions": positions, "words": words, "layers": first_layers > 0}
    for part, wanted in asked.items():
        if wanted and not chosen[part]:
            raise ConfigError(f"the backbone has no {part} to freeze")
    deepest = max((_layer(n) for n, _ in _named(encoder)), default=-1)
    if first_layers > deepest + 1:
        raise ConfigError(f"first_layers must be at most {deepest + 1}, got {first_layers}")
    names = {name for part in chosen.values() for name in part}
    for name, parameter in _named(encoder):
        if name in names:
            parameter.requires_grad_(False)
    return sorted(names)


def unfreeze(encoder: Encoder) -> None:
    """Let every parameter learn again."""
    encoder.requires_grad_(True)


def _named(encoder: Encoder) -> Iterator[tuple[str, nn.Parameter]]:
    return (pair for pair in encoder.named_parameters() if pair[0].startswith("backbone."))


def _layer(name: str) -> int:
    found = LAYER.search(name)
    return -1 if found is None else int(found.group(1))
