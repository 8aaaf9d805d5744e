"""Masking: as much as asked for, of ordinary tokens alone, the same on any number of ranks."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from tiny_texts import TEXTS, batch, make_tokenizer

from opengte.errors import ConfigError
from opengte.losses.language_modelling import IGNORED
from opengte.training.language_objectives import MlmObjective, RetroMaeObjective
from opengte.training.masking import Masker, MaskingRules


def test_shares_are_those_asked_for_and_special_tokens_never_change():
    rules = MaskingRules(share=0.3, mask_token_share=0.8, random_token_share=0.1)
    masker = Masker(make_tokenizer(), rules)
    ids = np.asarray([2, *range(5, 105), 3], dtype=np.int32)
    seen = [masker.mask(ids, np.random.default_rng(n)) for n in range(200)]
    chosen = np.array([(labels != IGNORED).sum() for _, labels in seen])
    assert (chosen == 30).all()
    hidden = np.concatenate([shown[labels != IGNORED] for shown, labels in seen])
    truth = np.concatenate([labels[labels != IGNORED] for _, labels in seen])
    assert np.mean(hidden == masker.mask_id) == pytest.approx(0.8, abs=0.02)
    assert np.mean(hidden == truth) == pytest.approx(0.1, abs=0.02)
    for shown, labels in seen:
        kept = labels == IGNORED
        assert (shown[kept] == ids[kept]).all()
        assert kept[0]
        assert kept[-1]


def test_labels_are_the_true_tokens():
    masker = Masker(make_tokenizer(), MaskingRules(share=0.5))
    ids = np.asarray([2, 10, 11, 12, 13, 3], dtype=np.int32)
    _, labels = masker.mask(ids, np.random.default_rng(0))
    assert (labels[labels != IGNORED] == ids[labels != IGNORED]).all()
    assert (labels != IGNORED).sum() == 2


def test_a_text_of_special_tokens_alone_hides_nothing():
    masker = Masker(make_tokenizer(), MaskingRules())
    shown, labels = masker.mask(np.asarray([2, 3], dtype=np.int32), np.random.default_rng(0))
    assert shown.tolist() == [2, 3]
    assert (labels == IGNORED).all()


def test_two_ranks_hide_what_one_hides():
    objective = MlmObjective(
        make_tokenizer(), MaskingRules(share=0.3), max_tokens=32, micro_batch_tokens=64, seed=5
    )
    whole = batch(TEXTS)
    first = whole.slice(0, 2)

    def by_text(parts, start):
        found = {}
        for part in parts:
            ends = np.cumsum([len(text) for text in part.texts])
            pieces = np.split(part.labels, ends[:-1])
            for place, text, labels in zip(part.positions, part.texts, pieces, strict=True):
                found[start + int(place)] = (text.ids.tolist(), labels.tolist())
        return found

    alone = by_text(objective.cut(whole, 0), 0)
    together = by_text(objective.cut(first, 0), 0)
    together |= by_text(objective.cut(whole.slice(1, 2), len(first)), len(first))
    assert together == alone


def test_another_step_hides_other_tokens():
    objective = MlmObjective(
        make_tokenizer(), MaskingRules(), max_tokens=32, micro_batch_tokens=1000, seed=5
    )
    (one,), (two,) = objective.cut(batch(TEXTS, 1), 0), objective.cut(batch(TEXTS, 2), 0)
    assert (one.labels != two.labels).any()


def test_no_place_of_the_enhanced_decoder_sees_itself():
    objective = RetroMaeObjective(
        make_tokenizer(),
        MaskingRules(share=0.3, mask_token_share=1.0, random_token_share=0.0),
        decoder_share=0.5,
        enhanced=True,
        max_tokens=40,
        micro_batch_tokens=4000,
        seed=0,
    )
    (part,) = objective.cut(batch(TEXTS), 0)
    visible = part.given.visible
    assert not visible.diagonal(dim1=1, dim2=2).any()
    lengths = [len(text) for text in part.texts]
    share = sum(v[:n, :n].float().sum() for v, n in zip(visible, lengths, strict=True))
    assert float(share) / sum(n * (n - 1) for n in lengths) == pytest.approx(0.5, abs=0.03)
    # Every ordinary token is guessed, and none of the padding.
    assert len(part.decoder_labels) == sum(n - 2 for n in lengths)


def test_the_plain_decoder_guesses_what_is_hidden_from_it():
    objective = RetroMaeObjective(
        make_tokenizer(),
        MaskingRules(share=0.3, mask_token_share=1.0, random_token_share=0.0),
        decoder_share=0.5,
        enhanced=False,
        max_tokens=40,
        micro_batch_tokens=4000,
        seed=0,
    )
    (part,) = objective.cut(batch(TEXTS), 0)
    shown = part.given.token_ids.flatten()
    assert (shown[part.given.predicted] == objective.masker.mask_id).all()
    assert int((shown == objective.masker.mask_id).sum()) == len(part.decoder_labels)


def test_a_tokenizer_without_a_mask_token_is_refused_by_name():
    bare = make_tokenizer()
    bare.config.pop("mask_token")
    with pytest.raises(ConfigError, match="names no mask_token, which masked language modelling"):
        Masker(bare, MaskingRules())


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"share": 0.0}, r"mask_share must lie in \(0, 1\), got 0.0"),
        ({"mask_token_share": 0.8, "random_token_share": 0.3}, "add up to 1.1; at most 1"),
    ],
)
def test_shares_that_cannot_be_are_refused(changes, match):
    with pytest.raises(ConfigError, match=match):
        dataclasses.replace(MaskingRules(), **changes)
