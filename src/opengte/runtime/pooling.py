"""Padded token states -> one vector a text, for graphs that stop before pooling.

Exports of our own hold pooling inside; those of other tools often end with the token states.
Axes: N texts, L tokens of the longest, C hidden size, D embedding size.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.special import erf

from opengte.model_folder import DenseLayer, PoolingMode

Floats = NDArray[np.float32]

ACTIVATIONS: Mapping[str, Callable[[Floats], Floats]] = {
    "identity": lambda values: values,
    "tanh": np.tanh,
    "relu": lambda values: np.maximum(values, 0),
    "gelu": lambda values: values * (1 + erf(values / np.sqrt(2))) / 2,
}


def pool(states: Floats, mask: NDArray[np.integer], *, mode: PoolingMode) -> Floats:
    """Pool (N, L, C) token states to (N, C) over the tokens that ``mask`` (N, L) names.

    Means the same as ``opengte.models.pooling.pool`` on packed tokens.
    """
    inside = mask.astype(bool)
    rows = np.arange(len(states))
    if mode == "cls":
        return states[rows, inside.argmax(axis=1)]
    if mode == "last_token":
        return states[rows, inside.shape[1] - 1 - inside[:, ::-1].argmax(axis=1)]
    if mode == "max":
        return np.where(inside[..., None], states, -np.inf).max(axis=1).astype(np.float32)
    weights = inside.astype(np.float32)
    if mode == "weighted_mean":
        weights = weights * np.arange(1, inside.shape[1] + 1, dtype=np.float32)
    totals = np.einsum("nlc,nl->nc", states, weights)
    sizes = weights.sum(axis=1, keepdims=True)
    return totals / (np.sqrt(sizes) if mode == "mean_sqrt_length" else sizes)


def apply_dense(layer: DenseLayer, vectors: Floats) -> Floats:
    """A linear layer after pooling, (N, C) -> (N, D)."""
    from safetensors.numpy import load_file

    tensors = load_file(layer.path)
    out = vectors @ tensors["linear.weight"].astype(np.float32).T
    if layer.bias:
        out = out + tensors["linear.bias"].astype(np.float32)
    return ACTIVATIONS[layer.activation](out).astype(np.float32)
