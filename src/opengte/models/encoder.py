"""The torch encoder: texts or packed tokens in, embeddings out.

Axes: N texts, T tokens, C hidden size, D embedding size.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from opengte.contracts import Progress, TextEncoder
from opengte.errors import ConfigError, UserError
from opengte.models.backbone import Backbone
from opengte.models.config import EncoderSettings
from opengte.models.fingerprint import Revision
from opengte.models.heads import Dense, cut_dimensions
from opengte.models.latent_attention import LatentAttention
from opengte.models.packing import PackedTokens, pack
from opengte.models.pooling import pool
from opengte.models.precision import CastLinear, resolve_dtype
from opengte.models.sparse import SparseHead, lexical_matrix, lexical_weights
from opengte.records import Embeddings, EmbeddingSpace, Kind, Truncate
from opengte.text.token_budget import group_by_length
from opengte.text.tokenizer import Tokenizer
from opengte.text.truncation import TokenizedText

WINDOW_TEXTS = 8192
"""So many texts are tokenised and sorted by length at a time."""
CPU_TOKEN_BUDGET = 2048
"""Tokens of one forward pass on a CPU: more fall out of a cache of 1 to 2 MiB a core."""
GPU_TOKEN_BUDGET = 65_536


class Encoder(nn.Module, TextEncoder):
    """A text encoder that can be trained; satisfies ``contracts.TextEncoder``.

    Args:
        backbone: packed tokens -> token states.
        tokenizer: of the backbone's vocabulary.
        settings: pooling, prompts, lengths.
        latent_attention: a layer between token states and pooling (NV-Embed).
        sparse_head: weights of tokens for ``encode_sparse`` (mGTE).
        dense: layers between pooling and embedding.
        compute_dtype: number format of activations: ``float32``, ``bfloat16``, or ``auto``:
            bfloat16 where the machine has units for it. Weights are float32 throughout.
        revision: of the folder it was loaded from; computed from the weights where absent, and
            again whenever they have changed.

    Raises:
        ConfigError: tokenizer and backbone do not fit, or texts would be longer than it reads.
    """

    def __init__(
        self,
        backbone: Backbone,
        tokenizer: Tokenizer,
        settings: EncoderSettings | None = None,
        *,
        latent_attention: LatentAttention | None = None,
        sparse_head: SparseHead | None = None,
        dense: Sequence[Dense] = (),
        compute_dtype: str = "auto",
        revision: str | None = None,
    ) -> None:
        super().__init__()
        self.settings = settings or EncoderSettings()
        if tokenizer.vocab_size > backbone.vocab_size:
            raise ConfigError(
                f"the tokenizer does not match the weights: it has {tokenizer.vocab_size} tokens, "
                f"the word embedding {backbone.vocab_size} rows"
            )
        self.backbone = backbone
        self.latent_attention = latent_attention
        self.sparse_head = sparse_head
        self.dense = nn.ModuleList(dense)
        self.tokenizer = tokenizer
        self.max_tokens = self.settings.max_tokens
        self.compute_dtype = compute_dtype
        self.token_budget: int | None = None
        self._revision = Revision(self, known=revision)
        self._vocabulary: Int[Tensor, " U"] | None = None
        self.eval()

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    @property
    def dimensions(self) -> int:
        """D, before any Matryoshka cut."""
        if len(self.dense):
            last = self.dense[-1]
            assert isinstance(last, Dense)
            return last.linear.out_features
        return self.backbone.hidden_size

    @property
    def max_tokens(self) -> int:
        """Longest input in tokens, special tokens included; longer texts are cut."""
        return self._max_tokens

    @max_tokens.setter
    def max_tokens(self, value: int) -> None:
        if not self.tokenizer.num_special_tokens < value <= self.backbone.num_positions:
            raise ConfigError(
                f"max_tokens must be between {self.tokenizer.num_special_tokens + 1} and the "
                f"model's {self.backbone.num_positions} positions, got {value}"
            )
        self._max_tokens = value

    @property
    def compute_dtype(self) -> str:
        """``auto``, ``float32`` or ``bfloat16``, as it was set."""
        return self._compute_dtype

    @compute_dtype.setter
    def compute_dtype(self, name: str) -> None:
        resolve_dtype(name, self.device)
        self._compute_dtype = name

    @property
    def dropout(self) -> tuple[float, float]:
        """Dropout of hidden states and of attention probabilities while training."""
        return self.backbone.dropout

    @dropout.setter
    def dropout(self, probability: float | tuple[float, float]) -> None:
        both = probability if isinstance(probability, tuple) else (probability, probability)
        if not all(0.0 <= value < 1.0 for value in both):
            raise ConfigError(f"dropout must be in [0, 1), got {probability}")
        self.backbone.set_dropout(*both)

    @property
    def gradient_checkpointing(self) -> bool:
        """Whether layers are computed again in the backward pass, which saves memory."""
        return self.backbone.gradient_checkpointing

    @gradient_checkpointing.setter
    def gradient_checkpointing(self, value: bool) -> None:
        self.backbone.gradient_checkpointing = value

    @property
    def space(self) -> EmbeddingSpace:
        """The space its vectors live in, as the weights are now."""
        settings = self.settings
        return EmbeddingSpace(
            model=settings.name,
            revision=self._revision.of(self),
            pooling=settings.pooling,
            dimensions=self.dimensions,
            normalised=settings.normalise,
            max_tokens=self.max_tokens,
            query_prompt=settings.prompts.query,
            document_prompt=settings.prompts.document,
            matryoshka_dimensions=settings.matryoshka_dimensions,
        )

    def forward(self, packed: PackedTokens) -> Float[Tensor, "N D"]:
        """Embed a packed batch; differentiable. float32, of length 1 where the space says so."""
        states = self.token_states(packed)
        vectors = self.embed_states(states, packed)
        if self._vocabulary is None:
            return vectors
        assert self.sparse_head is not None
        weights = self.sparse_head(states, packed)
        return torch.cat([vectors, lexical_matrix(weights, packed, self._vocabulary)], dim=1)

    @contextmanager
    def lexical(self, vocabulary: Int[Tensor, " U"] | None) -> Iterator[None]:
        """Let ``forward`` put lexical weights behind each embedding, for training both at once.

        Args:
            vocabulary: distinct token ids of all texts of a batch, ascending; None changes nothing.

        Raises:
            ConfigError: the model has no sparse head.
        """
        if vocabulary is not None and self.sparse_head is None:
            raise ConfigError("a sparse loss needs a sparse head; give the backbone one")
        self._vocabulary = vocabulary
        try:
            yield
        finally:
            self._vocabulary = None

    def token_states(self, packed: PackedTokens) -> Float[Tensor, "T C"]:
        """The backbone's last states of all tokens, before any head; differentiable."""
        self.backbone.compute_dtype = resolve_dtype(self._compute_dtype, self.device)
        return self.backbone(packed)

    def embed_states(
        self, states: Float[Tensor, "T C"], packed: PackedTokens
    ) -> Float[Tensor, "N D"]:
        """Token states -> embeddings: latent attention, pooling, dense layers, normalisation."""
        if self.latent_attention is not None:
            states = self.latent_attention(states)
        vectors = pool(states, packed, mode=self.settings.pooling)
        for layer in self.dense:
            vectors = layer(vectors)
        return functional.normalize(vectors, dim=-1) if self.settings.normalise else vectors

    def pack(self, texts: Sequence[TokenizedText]) -> PackedTokens:
        """Lay tokenised texts one behind the other, on the encoder's device."""
        exclude = not self.settings.include_prompt
        return pack(texts, exclude_prompt_from_pooling=exclude).to(self.device)

    def tokenize(
        self,
        texts: Sequence[str],
        *,
        kind: Kind | None = None,
        prompt_characters: int | Sequence[int] = 0,
        truncate: Truncate = "end",
    ) -> list[TokenizedText]:
        """Tokenise texts that have their prompts in front already.

        Args:
            texts: N texts.
            kind: which side's delimiters to use, for models that have their own for each.
            prompt_characters: how many characters of each text are prompt.
            truncate: which end of a long text is cut off; ``none`` makes it an error.

        Raises:
            UserError: a text is longer than ``max_tokens`` and ``truncate`` is ``none``.
        """
        tokens = self._tokenizer_for(kind).encode(
            texts,
            max_tokens=self.max_tokens,
            prompt_characters=prompt_characters,
            truncate=truncate,
        )
        for i, text in enumerate(tokens):
            if len(text) > self.max_tokens:
                raise UserError(
                    f"text {i} has {len(text)} tokens, the model reads {self.max_tokens}; "
                    "shorten it, or let it be cut with truncate='end'"
                )
            if not len(text):
                raise UserError(f"text {i} is empty: there is nothing to embed")
        return tokens

    def embed(
        self,
        texts: Sequence[str],
        *,
        kind: Kind | None = None,
        prompt: str | None = None,
        dimensions: int | None = None,
        truncate: Truncate = "end",
        progress: Progress | None = None,
    ) -> Embeddings:
        """Embed ``texts`` in their order; see ``contracts.TextEncoder.embed``."""
        size = self._check_dimensions(dimensions)
        vectors = np.empty((len(texts), size), dtype=np.float32)
        num_tokens = np.empty(len(texts), dtype=np.int64)
        truncated = np.empty(len(texts), dtype=np.bool_)
        front = self.settings.prompts.resolve(kind=kind, prompt=prompt)
        with self._evaluating(), torch.no_grad():
            for start in range(0, len(texts), WINDOW_TEXTS):
                window = slice(start, min(start + WINDOW_TEXTS, len(texts)))
                tokens = self.tokenize(
                    [front + text for text in texts[window]],
                    kind=kind,
                    prompt_characters=len(front),
                    truncate=truncate,
                )
                num_tokens[window] = [len(text) for text in tokens]
                truncated[window] = [text.truncated for text in tokens]
                done = start
                for rows, part in self._embed_tokens(tokens):
                    vectors[window][rows] = self._finish(part, size)
                    done += len(rows)
                    if progress is not None:
                        progress(done, len(texts))
        return Embeddings(vectors, num_tokens, truncated)

    def encode_sparse(
        self, texts: Sequence[str], *, kind: Kind | None = None
    ) -> list[Mapping[int, float]]:
        """One mapping a text, token id -> weight > 0; see ``contracts.SparseEncoder``.

        Raises:
            UserError: the model has no sparse head.
        """
        if self.sparse_head is None:
            raise UserError("this model has no sparse head; mGTE's and those we train have one")
        front = self.settings.prompts.resolve(kind=kind)
        result: list[Mapping[int, float]] = [{}] * len(texts)
        with self._evaluating(), torch.no_grad():
            tokens = self.tokenize([front + text for text in texts], kind=kind)
            for rows in self._batches(tokens):
                packed = self.pack([tokens[i] for i in rows])
                weights = self.sparse_head(self.token_states(packed), packed)
                for i, found in zip(rows, lexical_weights(weights, packed), strict=True):
                    result[i] = found
        return result

    def _embed_tokens(
        self, tokens: Sequence[TokenizedText]
    ) -> Iterator[tuple[NDArray[np.int64], Tensor]]:
        for rows in self._batches(tokens):
            yield rows, self(self.pack([tokens[i] for i in rows]))

    def _batches(self, tokens: Sequence[TokenizedText]) -> list[NDArray[np.int64]]:
        default = CPU_TOKEN_BUDGET if self.device.type == "cpu" else GPU_TOKEN_BUDGET
        lengths = [len(text) for text in tokens]
        return group_by_length(lengths, max_tokens=self.token_budget or default)

    def _finish(self, vectors: Tensor, size: int) -> NDArray[np.float32]:
        cut = cut_dimensions(vectors, size, normalised=self.settings.normalise)
        return np.asarray(cut.float().cpu().numpy())

    def _check_dimensions(self, dimensions: int | None) -> int:
        known = (*self.settings.matryoshka_dimensions, self.dimensions)
        if dimensions is not None and dimensions not in known:
            raise UserError(
                f"dimensions must be one the model was trained for "
                f"({', '.join(map(str, sorted(set(known))))}), got {dimensions}"
            )
        return dimensions or self.dimensions

    def _tokenizer_for(self, kind: Kind | None) -> Tokenizer:
        settings = self.settings
        sides = {"query": settings.query_delimiters, "document": settings.document_delimiters}
        delimiters = sides[kind or "document"]
        return self.tokenizer if delimiters is None else self.tokenizer.with_delimiters(*delimiters)

    @contextmanager
    def _evaluating(self) -> Iterator[None]:
        """Evaluation mode for the length of a block, with the weights as they are now."""
        was_training = self.training
        if was_training:
            self.eval()
        for module in self.modules():
            if isinstance(module, CastLinear):
                module.forget_if_changed()
        try:
            yield
        finally:
            if was_training:
                self.train()
