"""A query and a document read together -> a score: cross-encoders on packed tokens.

Axes: N pairs, T tokens, C hidden size, L labels (1 for a reranker).

The heads are those of released rerankers, in ``score_head``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor, nn

from opengte.contracts import Progress
from opengte.errors import ConfigError
from opengte.models.backbone import Backbone
from opengte.models.packing import PackedTokens, pack
from opengte.models.pooling import pool
from opengte.models.precision import resolve_dtype
from opengte.models.score_head import ScoreHead
from opengte.text.token_budget import group_by_length
from opengte.text.tokenizer import Tokenizer
from opengte.text.truncation import TokenizedText

TOKEN_BUDGET = 2048


class CrossEncoder(nn.Module):
    """A reranker that can be trained; satisfies ``contracts.Reranker``.

    Args:
        backbone: packed tokens -> token states.
        head: the first token's state -> labels.
        tokenizer: of the backbone's vocabulary.
        max_tokens: longest pair, special tokens included.
        compute_dtype: ``auto``, ``float32`` or ``bfloat16``.

    Raises:
        ConfigError: ``max_tokens`` is more than the backbone reads.
    """

    def __init__(
        self,
        backbone: Backbone,
        head: ScoreHead,
        tokenizer: Tokenizer,
        *,
        max_tokens: int = 512,
        compute_dtype: str = "auto",
    ) -> None:
        super().__init__()
        if max_tokens > backbone.num_positions:
            raise ConfigError(
                f"max_tokens must be at most the model's {backbone.num_positions} positions, "
                f"got {max_tokens}"
            )
        self.backbone = backbone
        self.head = head
        self.tokenizer = tokenizer
        self.max_tokens = max_tokens
        self.compute_dtype = compute_dtype
        self.eval()

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    def tokenize(self, pairs: Sequence[tuple[str, str]]) -> list[TokenizedText]:
        """Pairs of (query, document) as one text each; the longer of the two is cut first."""
        return self.tokenizer.encode_pairs(pairs, max_tokens=self.max_tokens)

    def pack(self, texts: Sequence[TokenizedText]) -> PackedTokens:
        """Lay tokenised pairs one behind the other, on the model's device."""
        return pack(texts).to(self.device)

    def forward(self, packed: PackedTokens) -> Float[Tensor, "N L"]:
        """Logits of packed pairs; differentiable."""
        self.backbone.compute_dtype = resolve_dtype(self.compute_dtype, self.device)
        states = self.backbone(packed)
        logits: Tensor = self.head(pool(states, packed, mode=self.head.pooling))
        return logits

    def logits(
        self, pairs: Sequence[tuple[str, str]], *, progress: Progress | None = None
    ) -> NDArray[np.float32]:
        """(N, L) logits of pairs of texts, in evaluation mode."""
        tokens = self.tokenize(pairs)
        result = np.zeros((len(pairs), self.head.out.out_features), dtype=np.float32)
        was_training = self.training
        self.eval()
        done = 0
        with torch.no_grad():
            for rows in group_by_length([len(t) for t in tokens], max_tokens=TOKEN_BUDGET):
                packed = pack([tokens[i] for i in rows]).to(self.device)
                result[rows] = self(packed).float().cpu().numpy()
                done += len(rows)
                if progress is not None:
                    progress(done, len(pairs))
        self.train(was_training)
        return result

    def score(self, query: str, documents: Sequence[str]) -> NDArray[np.float32]:
        """(N,): one score a document, larger is better; the logit of a head with one label.

        With several labels, the last one's log-probability (entailment-style heads).
        """
        logits = self.logits([(query, document) for document in documents])
        if logits.shape[1] == 1:
            return logits[:, 0]
        shifted = logits - logits.max(axis=1, keepdims=True)
        total = np.log(np.exp(shifted).sum(axis=1))
        return np.asarray(shifted[:, -1] - total, dtype=np.float32)
