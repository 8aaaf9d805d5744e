"""Rows by number: from however many shards, in whatever order, they are the rows that went in."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opengte.data.pair_rows import PairRows, pairs_to_batch
from opengte.data.text_gather import TextColumns
from opengte.errors import DataError
from opengte.records import Pair

# Around 12 bytes a view changes its form; characters of one to four bytes fall on the border.
_TEXTS = st.text(st.sampled_from("aé文🙂 "), max_size=16)
_PAIRS = st.builds(
    Pair,
    query=_TEXTS,
    positive=_TEXTS,
    negatives=st.lists(_TEXTS, max_size=2).map(tuple),
    score=st.none() | st.floats(0, 1),
    group=st.sampled_from(["", "g"]),
    origin=st.sampled_from(["", "file:1"]),
)


@settings(deadline=None)
@given(
    shards=st.lists(st.lists(_PAIRS, min_size=1, max_size=5), min_size=1, max_size=6),
    data=st.data(),
)
def test_rows_of_any_shards_in_any_order_are_what_went_in(
    shards: list[list[Pair]], data: st.DataObject
) -> None:
    rows = PairRows([pairs_to_batch(shard) for shard in shards])
    pairs = [pair for shard in shards for pair in shard]
    asked = data.draw(st.lists(st.integers(0, len(pairs) - 1), max_size=12))
    expected = [pairs[i] for i in asked]
    assert list(rows.pairs(np.array(asked, np.int64))) == expected
    taken = rows.take(np.array(asked, np.int64))
    assert taken.queries == [pair.query for pair in expected]
    assert taken.positives == [pair.positive for pair in expected]
    if taken.negatives is not None:
        assert list(map(tuple, taken.negatives)) == [pair.negatives for pair in expected]
    else:
        assert not any(pair.negatives for pair in expected)


def test_negatives_of_equal_number_are_lists_not_a_matrix() -> None:
    pair = Pair("q", "d", negatives=("x", "y"))
    rows = PairRows([pairs_to_batch([pair, pair]), pairs_to_batch([pair])])
    assert rows.take(np.array([2, 0, 1])).negatives == [["x", "y"]] * 3


def test_a_line_number_names_its_file() -> None:
    lines = pairs_to_batch([Pair("q", "d")], lines=[7], origin_file="a.jsonl")
    rows = PairRows([lines, pairs_to_batch([Pair("r", "e")])])
    assert [pair.origin for pair in rows.pairs(np.array([1, 0]))] == ["", "a.jsonl:7"]


@settings(deadline=None)
@given(texts=st.lists(_TEXTS, min_size=1, max_size=9), data=st.data())
def test_a_slice_of_a_column_is_read_from_where_it_begins(
    texts: list[str], data: st.DataObject
) -> None:
    start = data.draw(st.integers(0, len(texts) - 1))
    column = pa.array(texts, pa.string()).slice(start)
    order = np.arange(len(column))[::-1].copy()
    found = TextColumns([column]).take(len(column), [(0, order, np.arange(len(column)))])
    assert found.type == pa.string()
    assert found.to_pylist() == texts[start:][::-1]


def test_a_row_that_is_not_there_is_refused() -> None:
    rows = PairRows([pairs_to_batch([Pair("q", "d")])])
    with pytest.raises(DataError, match=r"rows must lie in \[0, 1\), got 1\.\.1"):
        rows.take(np.array([1]))
