"""What an encoder does around its backbone: the settings that travel with a model folder."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import get_args

from opengte.errors import ConfigError
from opengte.model_modules import PoolingMode
from opengte.text.prompts import Prompts

Delimiters = tuple[tuple[int, ...], tuple[int, ...]]
"""Token ids before and after a text."""


@dataclass(frozen=True, kw_only=True)
class EncoderSettings:
    """Pooling, normalisation, lengths and prompts of an encoder.

    Attributes:
        name: name of the model, for people.
        pooling: how token states become one vector; GTE takes the mean.
        include_prompt: whether the tokens of prompts take part in pooling; INSTRUCTOR and
            NV-Embed leave them out.
        normalise: whether vectors are brought to length 1.
        max_tokens: longest input, special tokens included.
        prompts: texts put before queries, documents and tasks.
        matryoshka_dimensions: sizes to which vectors may be cut.
        query_delimiters, document_delimiters: token ids put before and after each side in the
            place of the tokenizer's own special tokens (cpt-text, Neelakantan et al. 2022).

    Raises:
        ConfigError: a value that cannot be.
    """

    name: str = ""
    pooling: PoolingMode = "mean"
    include_prompt: bool = True
    normalise: bool = True
    max_tokens: int = 512
    prompts: Prompts = field(default_factory=Prompts)
    matryoshka_dimensions: tuple[int, ...] = ()
    query_delimiters: Delimiters | None = None
    document_delimiters: Delimiters | None = None

    def __post_init__(self) -> None:
        if self.pooling not in get_args(PoolingMode):
            known = ", ".join(get_args(PoolingMode))
            raise ConfigError(f"pooling must be one of {known}, got {self.pooling!r}")
        if self.max_tokens < 1:
            raise ConfigError(f"max_tokens must be >= 1, got {self.max_tokens}")
        if (self.query_delimiters is None) != (self.document_delimiters is None):
            raise ConfigError("query_delimiters and document_delimiters go together")
