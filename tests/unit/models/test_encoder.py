from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from opengte.contracts import SparseEncoder, TextEncoder
from opengte.errors import ConfigError, UserError
from opengte.models.bert import PackedBert, initialise
from opengte.models.config import EncoderSettings
from opengte.models.encoder import Encoder
from opengte.models.heads import Dense
from opengte.models.sparse import SparseHead
from opengte.text.prompts import Prompts


def make(tiny_bert, tiny_tokenizer, *, dense=(), sparse_head=None, **settings):
    chosen = EncoderSettings(**{"name": "tiny", "max_tokens": 64, **settings})
    return Encoder(
        tiny_bert,
        tiny_tokenizer,
        chosen,
        dense=dense,
        sparse_head=sparse_head,
        compute_dtype="float32",
    )


def test_it_satisfies_the_sockets(tiny_encoder):
    assert isinstance(tiny_encoder, TextEncoder)
    socket: SparseEncoder = tiny_encoder
    assert socket is tiny_encoder


@settings(max_examples=15, deadline=None)
@given(counts=st.lists(st.integers(0, 90), min_size=1, max_size=12), budget=st.integers(20, 400))
def test_vectors_do_not_depend_on_their_neighbours_or_the_budget(tiny_model, words, counts, budget):
    texts = words(counts)
    tiny_model.token_budget = budget
    together = tiny_model.embed(texts)
    alone = np.concatenate([tiny_model.encode([text]) for text in texts])
    assert np.allclose(together.vectors, alone, atol=1e-5)
    assert together.num_tokens.tolist() == [min(count + 2, 64) for count in counts]
    assert together.truncated.tolist() == [count + 2 > 64 for count in counts]
    assert np.allclose(np.linalg.norm(together.vectors, axis=1), 1.0, atol=1e-5)


@pytest.fixture(scope="module")
def tiny_model(bert_config, tiny_tokenizer):
    backbone = PackedBert(bert_config)
    initialise(backbone, seed=0)
    return make(backbone, tiny_tokenizer)


def test_windows_of_texts_give_the_same_as_one(tiny_encoder, words, monkeypatch):
    texts = words(range(1, 30))
    whole = tiny_encoder.encode(texts)
    monkeypatch.setattr("opengte.models.encoder.WINDOW_TEXTS", 7)
    assert np.allclose(tiny_encoder.encode(texts), whole, atol=1e-6)


def test_no_text_gives_no_vector(tiny_encoder):
    result = tiny_encoder.embed([])
    assert result.vectors.shape == (0, 32)


def test_progress_counts_up_to_the_number_of_texts(tiny_encoder, words):
    seen = []
    tiny_encoder.token_budget = 50
    tiny_encoder.encode(words([9] * 20), progress=lambda done, total: seen.append((done, total)))
    assert seen == sorted(seen)
    assert len(seen) > 1
    assert seen[-1] == (20, 20)


def test_prompts_stand_in_front_of_their_side(tiny_bert, tiny_tokenizer):
    encoder = make(tiny_bert, tiny_tokenizer, prompts=Prompts(query="w1 ", document="w2 "))
    (bare,) = encoder.encode(["w3 w4"])
    (query,) = encoder.encode(["w3 w4"], kind="query")
    assert np.allclose(query, encoder.encode(["w1 w3 w4"])[0], atol=1e-6)
    assert np.allclose(
        encoder.encode(["w3 w4"], kind="document"), encoder.encode(["w2 w3 w4"]), atol=1e-6
    )
    assert np.allclose(
        encoder.encode(["w3"], kind="query", prompt="w9 "), encoder.encode(["w9 w3"]), atol=1e-6
    )
    assert not np.allclose(bare, query, atol=1e-3)


def test_the_prompt_can_be_left_out_of_pooling(tiny_bert, tiny_tokenizer):
    prompts = Prompts(query="w1 w2 ")
    with_it = make(tiny_bert, tiny_tokenizer, prompts=prompts)
    without = make(tiny_bert, tiny_tokenizer, prompts=prompts, include_prompt=False)
    text = ["w5 w6 w7"]
    assert not np.allclose(
        with_it.encode(text, kind="query"), without.encode(text, kind="query"), atol=1e-3
    )
    packed = without.pack(without.tokenize(["w1 w2 w5 w6 w7"], prompt_characters=6))
    with torch.no_grad():
        states = without.token_states(packed)
    mean = torch.nn.functional.normalize(states[3:].mean(0), dim=0)
    assert np.allclose(without.encode(text, kind="query")[0], mean.numpy(), atol=1e-5)
    assert np.allclose(with_it.encode(text), without.encode(text), atol=1e-6)


def test_each_side_can_have_delimiters_of_its_own(tiny_bert, tiny_tokenizer):
    encoder = make(
        tiny_bert,
        tiny_tokenizer,
        query_delimiters=((10,), (11,)),
        document_delimiters=((12,), (13,)),
    )
    assert encoder.tokenize(["w5"], kind="query")[0].ids.tolist() == [10, 9, 11]
    assert encoder.tokenize(["w5"], kind="document")[0].ids.tolist() == [12, 9, 13]
    query, document = (encoder.encode(["w5"], kind=kind) for kind in ("query", "document"))
    assert not np.allclose(query, document, atol=1e-3)


def test_truncation_to_the_start_or_as_an_error(tiny_encoder, words):
    (text,) = words([100])
    end = tiny_encoder.tokenize([text], truncate="end")[0]
    start = tiny_encoder.tokenize([text], truncate="start")[0]
    assert len(end) == len(start) == 64
    assert end.ids.tolist() != start.ids.tolist()
    with pytest.raises(UserError, match="text 1 has 102 tokens, the model reads 64; shorten it"):
        tiny_encoder.embed(["w1", text], truncate="none")


def test_a_text_without_tokens_is_refused(tiny_bert, tiny_tokenizer):
    bare = tiny_tokenizer.with_delimiters((), ())
    encoder = make(tiny_bert, bare)
    with pytest.raises(UserError, match="text 1 is empty: there is nothing to embed"):
        encoder.embed(["w1", ""])


def test_matryoshka_sizes_are_cut_and_renormalised(tiny_bert, tiny_tokenizer, words):
    encoder = make(tiny_bert, tiny_tokenizer, matryoshka_dimensions=(8, 16))
    texts = words([4, 9])
    whole, cut = encoder.encode(texts), encoder.encode(texts, dimensions=8)
    expected = whole[:, :8] / np.linalg.norm(whole[:, :8], axis=1, keepdims=True)
    assert np.allclose(cut, expected, atol=1e-6)
    assert np.array_equal(encoder.encode(texts, dimensions=32), whole)
    with pytest.raises(UserError, match=r"one the model was trained for \(8, 16, 32\), got 12"):
        encoder.encode(texts, dimensions=12)


def test_vectors_keep_their_length_where_the_space_says_so(tiny_bert, tiny_tokenizer, words):
    encoder = make(tiny_bert, tiny_tokenizer, normalise=False, matryoshka_dimensions=(8,))
    vectors = encoder.encode(words([5, 7]))
    assert not np.allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-2)
    assert np.array_equal(encoder.encode(words([5, 7]), dimensions=8), vectors[:, :8])
    assert not encoder.space.normalised


def test_dense_layers_follow_pooling(tiny_bert, tiny_tokenizer, words):
    torch.manual_seed(0)
    layers = [Dense(32, 48, activation="tanh"), Dense(48, 6, bias=False)]
    encoder = make(tiny_bert, tiny_tokenizer, dense=layers, normalise=False)
    plain = torch.from_numpy(make(tiny_bert, tiny_tokenizer, normalise=False).encode(words([5])))
    with torch.no_grad():
        expected = layers[1].linear(torch.tanh(layers[0].linear(plain)))
    assert np.allclose(encoder.encode(words([5])), expected.numpy(), atol=1e-5)
    assert encoder.dimensions == encoder.space.dimensions == 6


def test_an_unknown_activation_is_refused():
    with pytest.raises(ConfigError, match="activation must be one of identity, tanh, relu, gelu"):
        Dense(2, 2, activation="swish")


def test_embedding_leaves_training_mode_as_it_was(tiny_encoder, words):
    tiny_encoder.train()
    first = tiny_encoder.encode(words([5]))
    assert tiny_encoder.training
    assert tiny_encoder.backbone.training
    assert np.array_equal(first, tiny_encoder.encode(words([5])))


def test_forward_is_differentiable_to_every_used_parameter(tiny_encoder, words):
    tiny_encoder.train()
    packed = tiny_encoder.pack(tiny_encoder.tokenize(words([3, 9, 20])))
    vectors = tiny_encoder(packed)
    assert vectors.shape == (3, 32)
    (vectors * torch.randn(3, 32)).sum().backward()
    for name, parameter in tiny_encoder.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.dtype == torch.float32


def test_bfloat16_points_the_same_way(tiny_encoder, words):
    texts = words([3, 30, 12, 1])
    exact = tiny_encoder.encode(texts)
    tiny_encoder.compute_dtype = "bfloat16"
    assert (exact * tiny_encoder.encode(texts)).sum(1).min() > 0.999


def test_dropout_is_set_for_both_kinds(tiny_encoder):
    assert tiny_encoder.dropout == (0.1, 0.1)
    tiny_encoder.dropout = 0.3
    assert tiny_encoder.dropout == (0.3, 0.3)
    tiny_encoder.dropout = (0.2, 0.0)
    attention = tiny_encoder.backbone.layers[0].attention
    assert (attention.dropout, attention.probability_dropout) == (0.2, 0.0)
    with pytest.raises(ConfigError, match=r"dropout must be in \[0, 1\), got 1.0"):
        tiny_encoder.dropout = 1.0


def test_lengths_beyond_the_positions_are_refused(tiny_encoder):
    tiny_encoder.max_tokens = 80
    assert tiny_encoder.space.max_tokens == 80
    for wrong in (81, 2):
        with pytest.raises(
            ConfigError, match=rf"between 3 and the model's 80 positions, got {wrong}"
        ):
            tiny_encoder.max_tokens = wrong


def test_a_tokenizer_that_does_not_match_is_refused(bert_config, tiny_tokenizer):
    backbone = PackedBert({**bert_config, "vocab_size": 40})
    with pytest.raises(ConfigError, match="it has 64 tokens, the word embedding 40 rows"):
        Encoder(backbone, tiny_tokenizer)


def test_the_revision_follows_the_weights(tiny_encoder):
    before = tiny_encoder.space
    assert tiny_encoder.space == before
    copied = copy.deepcopy(tiny_encoder)
    with torch.no_grad():
        next(tiny_encoder.parameters()).add_(1.0)
    assert tiny_encoder.space.fingerprint != before.fingerprint
    assert copied.space == before


def test_the_revision_of_the_folder_stands_until_a_weight_changes(tiny_bert, tiny_tokenizer):
    encoder = Encoder(tiny_bert, tiny_tokenizer, EncoderSettings(max_tokens=64), revision="abc")
    assert encoder.space.revision == "abc"
    with torch.no_grad():
        next(encoder.parameters()).add_(1.0)
    assert len(encoder.space.revision) == 64


def test_sparse_weights_keep_the_largest_of_a_repeated_token(tiny_bert, tiny_tokenizer):
    torch.manual_seed(0)
    head = SparseHead(32, ignored_ids=(2, 3))
    torch.nn.init.constant_(head.linear.bias, 1.0)
    encoder = make(tiny_bert, tiny_tokenizer, sparse_head=head)
    texts = ["w1 w2 w1 w3", "w4", "w2 w2"]
    found = encoder.encode_sparse(texts)
    for text, weights in zip(texts, found, strict=True):
        packed = encoder.pack(encoder.tokenize([text]))
        with torch.no_grad():
            states = encoder.token_states(packed)
            raw = torch.relu(encoder.sparse_head.linear(states)).flatten().tolist()
        expected = {}
        for token, value in zip(packed.token_ids.tolist(), raw, strict=True):
            if token not in (2, 3) and value > 0:
                expected[token] = max(value, expected.get(token, 0.0))
        assert weights == pytest.approx(expected, abs=1e-5)
    assert any(found)


def test_a_model_without_a_sparse_head_says_so(tiny_encoder):
    with pytest.raises(UserError, match="this model has no sparse head"):
        tiny_encoder.encode_sparse(["w1"])


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"pooling": "sum"}, "pooling must be one of mean, cls.*got 'sum'"),
        ({"max_tokens": 0}, "max_tokens must be >= 1, got 0"),
        (
            {"query_delimiters": ((1,), (2,))},
            "query_delimiters and document_delimiters go together",
        ),
    ],
)
def test_settings_that_cannot_be_are_refused(values, match):
    with pytest.raises(ConfigError, match=match):
        EncoderSettings(**values)
