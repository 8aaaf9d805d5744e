"""Settings of a mixture, and how much of each source they give."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from opengte.data.sources import PromptsConfig
from opengte.errors import ConfigError

Mode = Literal["one_source", "one_task", "mixed", "balanced", "ordered"]
Repeats = Literal["skip", "label"]


@dataclass(frozen=True, kw_only=True)
class LengthBucket:
    """One line of a table of batch sizes by length (mGTE, appendix).

    Attributes:
        max_tokens: longest text of a row, in estimated tokens (``estimate_tokens``); rows beyond
            the last bucket's go into that one.
        batch_size: pairs in a batch of such rows.
    """

    max_tokens: int
    batch_size: int

    def __post_init__(self) -> None:
        if self.max_tokens < 1 or self.batch_size < 1:
            raise ConfigError(
                "max_tokens and batch_size of a length bucket must be >= 1, got "
                f"{self.max_tokens} and {self.batch_size}"
            )


@dataclass(frozen=True, kw_only=True)
class MixtureConfig:
    """How sources are mixed into batches.

    Attributes:
        batch_size: pairs in a global batch; GTE pre-trains with 16,384, fine-tunes with 128.
        mode: what one global batch holds. ``one_source`` (GTE), rows of one source; ``one_task``,
            rows of sources of one task; ``mixed``, rows of any, but those with scores, and those
            that are no negatives of each other, by themselves; ``balanced`` (Conan), rows of any
            whatever they are; ``ordered`` (Linq), rows of one task, and the tasks one after
            another.
        alpha: p_i = n_i^alpha / sum n_j^alpha; GTE: 0.5. 0 = uniform, 1 = by size.
        weights: shares in place of what alpha gives, for every source by name.
        max_rows: rows of a source that count at most in alpha's formula (T5's size limit).
        max_share: share that a source may have at most; the rest goes to the others.
        merge_below: sources of fewer usable rows are merged with others of their task into one
            (mGTE does so with small languages); 0 merges none.
        flip_symmetric: let the sides of symmetric sources change places in half the draws, the
            other half in the next epoch.
        repeats: what becomes of a row when a text of it stands in the batch already: ``skip``
            leaves it out and counts it; ``label`` keeps it where the same side repeats and
            labels equal texts, so that losses never take them for negatives of each other.
        max_negatives: hard negatives of a row used at a time, others in other epochs; GTE
            fine-tunes with 15. None = all.
        length_table: batches hold rows of one length bucket, and its batch size replaces
            ``batch_size``. mGTE: (500, 768), (1000, 384), (2000, 256), (3000, 160), (8000, 80).
        order: tasks in the order of an ``ordered`` mixture.
        num_steps: length of the run; only ``ordered`` mixtures need it.
        prompts: what stands in front of texts.
        seed: of everything drawn. The order depends on it and the sources alone, not on the
            model, so that models of all sizes see the same batches.
    """

    batch_size: int = 16_384
    mode: Mode = "one_source"
    alpha: float = 0.5
    weights: Mapping[str, float] = field(default_factory=dict)
    max_rows: int | None = None
    max_share: float | None = None
    merge_below: int = 0
    flip_symmetric: bool = True
    repeats: Repeats = "skip"
    max_negatives: int | None = None
    length_table: tuple[LengthBucket, ...] = ()
    order: tuple[str, ...] = ()
    num_steps: int | None = None
    prompts: PromptsConfig = field(default_factory=PromptsConfig)
    seed: int = 0

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ConfigError(f"batch_size must be >= 1, got {self.batch_size}")
        if not 0 <= self.alpha <= 10:
            raise ConfigError(f"alpha must lie in [0, 10], got {self.alpha}; GTE uses 0.5")
        if self.max_rows is not None and self.max_rows < 1:
            raise ConfigError(f"max_rows must be >= 1, got {self.max_rows}")
        if self.max_share is not None and not 0 < self.max_share <= 1:
            raise ConfigError(f"max_share must lie in (0, 1], got {self.max_share}")
        if self.max_negatives is not None and self.max_negatives < 0:
            raise ConfigError(f"max_negatives must be >= 0, got {self.max_negatives}")
        if self.merge_below < 0:
            raise ConfigError(f"merge_below must be >= 0, got {self.merge_below}")
        for name, weight in self.weights.items():
            if not (weight >= 0 and np.isfinite(weight)):
                raise ConfigError(f"weights: {name!r} must be finite and >= 0, got {weight}")
        if self.mode == "ordered" and (not self.order or self.num_steps is None):
            raise ConfigError("an ordered mixture needs order (names of tasks) and num_steps")
        if self.mode != "ordered" and self.order:
            raise ConfigError(f"order is for the ordered mode alone, got mode {self.mode!r}")
        longest = [bucket.max_tokens for bucket in self.length_table]
        if longest != sorted(set(longest)):
            raise ConfigError(f"length_table must grow in max_tokens, got {longest}")


def mixing_shares(
    num_rows: Sequence[int] | NDArray[np.int64],
    *,
    alpha: float,
    weights: Sequence[float] | None = None,
    max_rows: int | None = None,
    max_share: float | None = None,
) -> NDArray[np.float64]:
    """p_i = w_i n_i^alpha / sum w_j n_j^alpha (GTE, eq. 4), capped.

    Args:
        num_rows: n_i, (S,).
        alpha: 0 = uniform, 1 = by size.
        weights: w_i, (S,); None = 1 each.
        max_rows: n_i counts as at most this.
        max_share: p_i is at most this; what is cut off goes to the others in proportion.

    Returns:
        (S,), summing to 1.
    """
    sizes = np.asarray(num_rows, np.float64)
    if max_rows is not None:
        sizes = np.minimum(sizes, max_rows)
    mass = sizes**alpha * (1.0 if weights is None else np.asarray(weights, np.float64))
    if not mass.sum() > 0:
        raise ConfigError("every source has weight 0; give one of them a share")
    shares = mass / mass.sum()
    return shares if max_share is None else _capped(shares, max_share)


def _capped(shares: NDArray[np.float64], max_share: float) -> NDArray[np.float64]:
    """Cut shares to ``max_share``, and raise the others in proportion until all sum to 1."""
    num_drawn = int((shares > 0).sum())
    if max_share * num_drawn < 1 - 1e-12:
        raise ConfigError(
            f"max_share {max_share} times {num_drawn} sources is less than 1; raise max_share"
        )
    full = np.zeros(len(shares), np.bool_)
    while True:
        free = np.where(full, 0.0, shares)
        left = max(0.0, 1.0 - max_share * full.sum())
        scaled = np.where(full, max_share, free * (left / free.sum() if free.any() else 0.0))
        over = (scaled > max_share * (1 + 1e-12)) & ~full
        if not over.any():
            return scaled
        full |= over
