"""The contrastive family as nested loops over float64 numbers, with every rule written out."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from opengte.losses.form import ContrastiveForm, Partition
from opengte.losses.inputs import EmbeddedBatch


def slow_contrastive_loss(
    batch: EmbeddedBatch, form: ContrastiveForm, *, temperature: float
) -> float:
    total = 0.0
    for i in batch.anchors:
        for partition in form.partitions:
            terms, pulled = positives(batch, form, partition, i, temperature)
            terms = terms + other_rows(batch, form, partition, i, temperature)
            terms += hard_negatives(batch, form, partition, i, temperature)
            peak = max(terms)
            log_z = peak + math.log(sum(math.exp(t - peak) for t in terms))
            total += partition.weight * (log_z - sum(pulled) / len(pulled))
    return total / len(batch)


def positives(
    batch: EmbeddedBatch, form: ContrastiveForm, partition: Partition, i: int, temperature: float
) -> tuple[list[float], list[float]]:
    """The positives in Z, and those in the numerator."""
    own = logit(form, batch.queries[i], batch.documents[i], temperature)
    directions = partition.query_document or partition.document_query
    if form.positives == "own" or not batch.in_batch_negatives or not directions:
        return [own] * partition.num_positives, [own]
    everyone = range(len(batch))
    q, d = batch.queries, batch.documents
    answers_of_i = [
        logit(form, q[i], d[j], temperature)
        for j in everyone
        if answers(batch, i, document_label(batch, j))
    ]
    answered_by_i = [
        logit(form, q[j], d[i], temperature)
        for j in everyone
        if answers(batch, j, document_label(batch, i))
    ]
    if not partition.query_document:
        return answered_by_i, answered_by_i
    both = form.keeps_answers("document_query") and partition.document_query
    return answers_of_i + (answered_by_i if both else []), answers_of_i


def other_rows(
    batch: EmbeddedBatch, form: ContrastiveForm, partition: Partition, i: int, temperature: float
) -> list[float]:
    if not batch.in_batch_negatives:
        return []
    terms = []
    q, d = batch.queries, batch.documents
    for j in range(len(batch)):
        if i == j or answers(batch, i, document_label(batch, j)):
            continue
        if answers(batch, j, document_label(batch, i)):
            continue
        query_document = logit(form, q[i], d[j], temperature)
        query_query = logit(form, q[i], q[j], temperature)
        document_query = logit(form, d[i], q[j], temperature)
        document_document = logit(form, d[i], d[j], temperature)
        limit = false_negative_limit(batch, form, i, temperature)
        if partition.query_document and query_document <= limit:
            terms.append(query_document)
        if partition.query_query and query_query <= limit:
            terms.append(query_query)
        if partition.document_query and document_query <= limit:
            terms.append(document_query)
        too_similar = form.margin_on_documents and query_document > limit
        if partition.document_document and not too_similar:
            terms.append(document_document)
    return terms


def hard_negatives(
    batch: EmbeddedBatch, form: ContrastiveForm, partition: Partition, i: int, temperature: float
) -> list[float]:
    if batch.negatives is None:
        return []
    assert batch.negative_owners is not None
    limit = false_negative_limit(batch, form, i, temperature)
    terms = []
    for k, owner in enumerate(batch.negative_owners.tolist()):
        label = None if batch.negative_labels is None else int(batch.negative_labels[k])
        if answers(batch, i, label):
            continue
        everyone = partition.hard_negatives == "all" and batch.in_batch_negatives
        query_negative = logit(form, batch.queries[i], batch.negatives[k], temperature)
        mine = everyone or (partition.hard_negatives is not None and owner == i)
        if mine and query_negative <= limit:
            terms.append(query_negative)
        others = batch.in_batch_negatives and not same_query(batch, i, owner)
        too_similar = form.margin_on_documents and query_negative > limit
        if partition.document_negatives and others and not too_similar:
            terms.append(logit(form, batch.documents[i], batch.negatives[k], temperature))
    return terms


def false_negative_limit(
    batch: EmbeddedBatch, form: ContrastiveForm, i: int, temperature: float
) -> float:
    if form.false_negative_margin is None:
        return math.inf
    positive = logit(form, batch.queries[i], batch.documents[i], temperature)
    return positive + form.false_negative_margin / temperature


def logit(form: ContrastiveForm, x: Tensor, y: Tensor, temperature: float) -> float:
    x, y = x.double(), y.double()
    if form.similarity == "squared_distance":
        return -float(sum((x - y) ** 2)) / 2 / temperature
    return float(torch.dot(x, y) / x.norm() / y.norm()) / temperature


def query_label(batch: EmbeddedBatch, i: int) -> int:
    return i if batch.query_labels is None else int(batch.query_labels[i])


def document_label(batch: EmbeddedBatch, i: int) -> int:
    return i if batch.document_labels is None else int(batch.document_labels[i])


def same_query(batch: EmbeddedBatch, i: int, j: int) -> bool:
    return query_label(batch, i) == query_label(batch, j)


def answers(batch: EmbeddedBatch, i: int, label: int | None) -> bool:
    """Whether any row of the batch says that the text called ``label`` answers query i."""
    return label is not None and any(
        same_query(batch, i, k) and document_label(batch, k) == label for k in range(len(batch))
    )
