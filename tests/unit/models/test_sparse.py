from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from opengte.models.packing import pack
from opengte.models.sparse import (
    SparseHead,
    lexical_matrix,
    lexical_score,
    lexical_weights,
    shared_vocabulary,
)


@settings(max_examples=40, deadline=None)
@given(lengths=st.lists(st.integers(1, 8), min_size=1, max_size=4), seed=st.integers(0, 99))
def test_matrix_products_equal_sums_over_shared_tokens(random_texts, lengths, seed):
    generator = torch.Generator().manual_seed(seed)
    queries = pack(random_texts(lengths, seed=seed))
    documents = pack(random_texts([5, 30], seed=seed + 1))
    weights = [
        torch.relu(torch.randn(p.num_tokens, generator=generator)) for p in (queries, documents)
    ]
    vocabulary = shared_vocabulary([queries, documents])
    scores = (
        lexical_matrix(weights[0], queries, vocabulary)
        @ lexical_matrix(weights[1], documents, vocabulary).T
    )
    first, second = (
        lexical_weights(w, p) for w, p in zip(weights, (queries, documents), strict=True)
    )
    for i, query in enumerate(first):
        for j, document in enumerate(second):
            by_hand = sum(w * document[t] for t, w in query.items() if t in document)
            assert abs(scores[i, j].item() - by_hand) < 1e-4
            assert abs(lexical_score(query, document) - by_hand) < 1e-6
            assert lexical_score(query, document) == lexical_score(document, query)


def test_only_the_largest_weight_of_a_repeated_token_learns(random_texts):
    packed = pack(random_texts([3]))
    packed.token_ids[:] = 7
    weights = torch.tensor([1.0, 3.0, 2.0], requires_grad=True)
    matrix = lexical_matrix(weights, packed, torch.tensor([7]))
    assert matrix.tolist() == [[3.0]]
    matrix.sum().backward()
    assert weights.grad.tolist() == [0.0, 1.0, 0.0]


def test_ignored_tokens_weigh_nothing_and_negative_ones_neither(random_texts):
    torch.manual_seed(0)
    packed = pack(random_texts([40]))
    head = SparseHead(6, ignored_ids=[int(packed.token_ids[0])])
    weights = head(torch.randn(40, 6), packed)
    ignored = packed.token_ids == packed.token_ids[0]
    assert (weights[ignored] == 0).all()
    assert (weights >= 0).all()
    assert (weights > 0).any()
    assert int(packed.token_ids[0]) not in lexical_weights(weights, packed)[0]
