"""mGTE's lexical head: a weight for each token of a text, kept by token id.

Axes: N texts, T tokens, C hidden size, U distinct token ids of a batch.

mGTE (Zhang et al. 2024, 2.3): w_t = ReLU(W h_t); a token that occurs twice keeps its larger weight;
the score of two texts is the sum over shared tokens of the product of their weights.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from opengte.models.packing import PackedTokens


class SparseHead(nn.Module):
    """One linear layer and ReLU, in float32.

    Args:
        hidden_size: C.
        ignored_ids: ids that never get a weight: special tokens.
    """

    def __init__(self, hidden_size: int, *, ignored_ids: Collection[int] = ()) -> None:
        super().__init__()
        self.linear = nn.Linear(hidden_size, 1)
        self.ignored_ids = frozenset(ignored_ids)

    def forward(self, states: Float[Tensor, "T C"], packed: PackedTokens) -> Float[Tensor, " T"]:
        """The weight of each token, 0 for ignored ones."""
        weights = torch.relu(self.linear(states.float())).squeeze(-1)
        if not self.ignored_ids:
            return weights
        ignored = torch.tensor(sorted(self.ignored_ids), device=states.device)
        return weights.masked_fill(torch.isin(packed.token_ids, ignored), 0.0)


def lexical_weights(
    weights: Float[Tensor, " T"], packed: PackedTokens
) -> list[Mapping[int, float]]:
    """One mapping a text: token id -> its largest weight, where that is above 0."""
    ids, values = packed.token_ids.tolist(), weights.tolist()
    ends = packed.boundaries.tolist()
    result: list[Mapping[int, float]] = []
    for start, end in pairwise(ends):
        kept: dict[int, float] = {}
        for token, value in zip(ids[start:end], values[start:end], strict=True):
            if value > kept.get(token, 0.0):
                kept[token] = value
        result.append(kept)
    return result


def lexical_matrix(
    weights: Float[Tensor, " T"], packed: PackedTokens, vocabulary: Int[Tensor, " U"]
) -> Float[Tensor, "N U"]:
    """The weights of each text over the ids of a batch; differentiable.

    ``lexical_matrix(q) @ lexical_matrix(d).T`` are the scores of all pairs.

    Args:
        weights: of all tokens.
        packed: the batch they belong to.
        vocabulary: distinct ids in ascending order, those of both sides: ``shared_vocabulary``.
    """
    columns = torch.searchsorted(vocabulary, packed.token_ids)
    places = packed.text_of_token * len(vocabulary) + columns
    start = weights.new_zeros(len(packed) * len(vocabulary))
    flat = start.scatter_reduce(0, places, weights, "amax")
    return flat.unflatten(0, (len(packed), len(vocabulary)))


def shared_vocabulary(batches: Sequence[PackedTokens]) -> Int[Tensor, " U"]:
    """The distinct token ids of several batches, ascending."""
    return torch.unique(torch.cat([batch.token_ids for batch in batches]))


def lexical_score(first: Mapping[int, float], second: Mapping[int, float]) -> float:
    """The sum over shared tokens of the product of their weights."""
    if len(second) < len(first):
        first, second = second, first
    return sum(value * second[token] for token, value in first.items() if token in second)
