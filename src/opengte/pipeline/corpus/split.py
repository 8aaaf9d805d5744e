"""Pairs of many groups -> which of them train, which choose (dev), which judge (test)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from opengte.data.near_duplicates import connect, near_duplicate_groups
from opengte.data.splits import Split, split_by_group
from opengte.pipeline.corpus.names import masked_positive
from opengte.records import Pair

LARGEST_HELD_OUT_SHARE = 0.3
LARGEST_GROUP_SHARE = 0.4
"""Of a held-out part: many small packages make a better test than one large one."""
MOST_COUNTED_SHARE = 0.06
"""Of a held-out part, from one package: about what an even draw takes from it."""
MARGIN = 1.25
"""Rows held out per query wanted: some fall away as copies of one another."""


def row_components(
    pairs: Sequence[Pair], names: Mapping[str, str] | None = None, *, threshold: float
) -> NDArray[np.int64]:
    """Number of the near-duplicate component of every row.

    Two rows are linked when a text of one, query or positive, with its own name or without, is a
    near-duplicate of a text of the other (MinHash, Jaccard similarity of word 3-shingles at least
    ``threshold``); links are followed through.

    Args:
        pairs: the rows.
        names: origin of a function -> its name; None = no text has one.
        threshold: 0 to 1.
    """
    texts = [pair.query for pair in pairs] + [pair.positive for pair in pairs]
    if names:
        texts += [masked_positive(pair, names) for pair in pairs]
    labels = near_duplicate_groups(texts, threshold=threshold)
    num_rows = len(pairs)
    rows = np.tile(np.arange(num_rows), len(texts) // max(1, num_rows))
    return connect(num_rows + int(labels.max(initial=-1)) + 1, rows, num_rows + labels)[:num_rows]


def hold_out(
    pairs: Sequence[Pair],
    components: NDArray[np.int64],
    askable: Sequence[bool],
    *,
    num_test: int,
    num_dev: int,
    embedded: bool,
    seed: int,
) -> Split:
    """Hold out whole groups until they hold ``num_test`` and ``num_dev`` askable rows.

    Of a small corpus fewer are held out: at most ``LARGEST_HELD_OUT_SHARE`` of its rows. Of the
    embedded one, packages large and small are, and a large one counts no more than it is asked.
    """
    num_askable = max(1, sum(askable))
    wanted = (num_test + num_dev) * MARGIN * len(pairs) / num_askable
    scale = min(1.0, LARGEST_HELD_OUT_SHARE * len(pairs) / wanted) * wanted / (num_test + num_dev)
    return split_by_group(
        [pair.group for pair in pairs],
        [components],
        num_test=max(1, round(num_test * scale)),
        num_dev=max(1, round(num_dev * scale)),
        largest_group=LARGEST_GROUP_SHARE,
        most_counted=MOST_COUNTED_SHARE if embedded else math.inf,
        seed=seed,
    )
