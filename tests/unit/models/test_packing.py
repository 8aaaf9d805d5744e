from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from opengte.errors import ConfigError
from opengte.models.length_groups import make_length_groups
from opengte.models.packing import pack
from opengte.text.truncation import TokenizedText

lengths_strategy = st.lists(st.integers(1, 30), min_size=1, max_size=12)


def texts_of(lengths, prompts=None):
    prompts = prompts or [0] * len(lengths)
    start = np.concatenate([[0], np.cumsum(lengths)])
    return [
        TokenizedText(np.arange(start[i], start[i + 1], dtype=np.int32), num_prompt_tokens=prompt)
        for i, prompt in enumerate(prompts)
    ]


@given(lengths=lengths_strategy)
def test_texts_lie_one_behind_the_other_in_their_order(lengths):
    packed = pack(texts_of(lengths))
    assert packed.token_ids.tolist() == list(range(sum(lengths)))
    assert packed.boundaries.tolist() == [0, *np.cumsum(lengths).tolist()]
    assert packed.positions.tolist() == [i for length in lengths for i in range(length)]
    assert packed.text_of_token.tolist() == [i for i, n in enumerate(lengths) for _ in range(n)]
    assert packed.pooling_mask.all()
    assert (len(packed), packed.num_tokens) == (len(lengths), sum(lengths))
    assert packed.max_length == max(lengths)


def test_prompt_tokens_are_left_out_of_pooling_only_when_asked():
    texts = texts_of([4, 3], [2, 0])
    assert pack(texts).pooling_mask.all()
    mask = pack(texts, exclude_prompt_from_pooling=True).pooling_mask
    assert mask.tolist() == [False, False, True, True, True, True, True]


def test_a_text_that_is_all_prompt_keeps_its_last_token():
    mask = pack(texts_of([3], [3]), exclude_prompt_from_pooling=True).pooling_mask
    assert mask.tolist() == [False, False, True]


@pytest.mark.parametrize("lengths", [[], [2, 0]])
def test_an_empty_batch_or_text_is_refused(lengths):
    with pytest.raises(ConfigError, match="at least one text, and every text a token"):
        pack(texts_of(lengths))


@settings(max_examples=80, deadline=None)
@given(
    lengths=lengths_strategy,
    tolerance=st.integers(1, 12),
    max_scores=st.sampled_from([1, 500, 10**6]),
)
def test_groups_take_every_token_once_and_put_it_back(lengths, tolerance, max_scores):
    groups = make_length_groups(
        np.array(lengths),
        num_heads=2,
        device=torch.device("cpu"),
        tolerance=tolerance,
        max_scores=max_scores,
    )
    tokens = torch.arange(sum(lengths))
    parts = []
    for group in groups.groups:
        taken = group.take(tokens)
        assert taken.shape == (group.num_texts, group.length)
        sizes = group.is_real.sum(1) if group.is_real is not None else torch.tensor([group.length])
        assert group.length - int(sizes.min()) < tolerance
        assert group.num_texts == 1 or group.num_texts * 2 * group.length**2 <= max_scores
        parts.append(taken.flatten())
    assert torch.equal(groups.put_back(parts), tokens)


def test_neighbours_of_one_length_need_no_index():
    groups = make_length_groups(np.array([7, 7, 3, 3]), num_heads=1, device=torch.device("cpu"),
                                tolerance=1)  # fmt: skip
    assert [g.rows for g in groups.groups] == [slice(0, 14), slice(14, 20)]
    assert groups.restore is None
