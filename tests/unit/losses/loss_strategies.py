"""Random batches and random members of the contrastive family, for hypothesis."""

from __future__ import annotations

import torch
from hypothesis import strategies as st

from opengte.losses.form import ContrastiveForm, Partition
from opengte.losses.inputs import EmbeddedBatch


@st.composite
def batches(draw: st.DrawFn) -> EmbeddedBatch:
    size = draw(st.integers(1, 6))
    num_negatives = draw(st.integers(0, 7))
    dimensions = draw(st.integers(1, 5))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))

    def vectors(n: int) -> torch.Tensor:
        return torch.randn(n, dimensions, generator=generator, dtype=torch.float64)

    def labels(n: int) -> torch.Tensor:
        return torch.tensor(draw(st.lists(st.integers(-2, 4), min_size=n, max_size=n))).long()

    documents_labelled = draw(st.booleans())
    negatives_labelled = num_negatives and documents_labelled and draw(st.booleans())
    owners = st.lists(st.integers(0, size - 1), min_size=num_negatives, max_size=num_negatives)
    start = draw(st.integers(0, size))
    return EmbeddedBatch(
        vectors(size),
        vectors(size),
        vectors(num_negatives) if num_negatives else None,
        torch.tensor(draw(owners)) if num_negatives else None,
        query_labels=labels(size) if draw(st.booleans()) else None,
        document_labels=labels(size) if documents_labelled else None,
        negative_labels=labels(num_negatives) if negatives_labelled else None,
        in_batch_negatives=draw(st.booleans()),
        rows=range(start, draw(st.integers(start, size))) if draw(st.booleans()) else None,
    )


partitions = st.builds(
    Partition,
    query_document=st.booleans(),
    query_query=st.booleans(),
    document_query=st.booleans(),
    document_document=st.booleans(),
    hard_negatives=st.sampled_from([None, "own", "all"]),
    document_negatives=st.booleans(),
    num_positives=st.sampled_from([1, 2]),
    weight=st.sampled_from([0.5, 1.0]),
)
forms = st.builds(
    ContrastiveForm,
    partitions=st.lists(partitions, min_size=1, max_size=2).map(tuple),
    similarity=st.sampled_from(["cosine", "squared_distance"]),
    false_negative_margin=st.sampled_from([None, None, -0.1, 0.1]),
    margin_on_documents=st.booleans(),
    positives=st.sampled_from(["own", "own", "known"]),
)
temperatures = st.sampled_from([0.01, 0.05, 1.0])
