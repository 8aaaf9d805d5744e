"""Labelled texts or pairs -> cross-entropy of a linear layer on their embeddings.

Axes: B rows of the rank, D embedding size, L classes.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from opengte.errors import DataError
from opengte.models.backbone import Backbone
from opengte.models.classifier import EmbeddingClassifier
from opengte.models.encoder import Encoder
from opengte.models.packing import PackedTokens
from opengte.records import Batch
from opengte.text.truncation import TokenizedText
from opengte.training.batching import MicroBatch


class ClassifyingEncoder(nn.Module):
    """An encoder and a classifier that learn together.

    Args:
        encoder: embeds.
        classifier: embeddings -> logits.
    """

    def __init__(self, encoder: Encoder, classifier: EmbeddingClassifier) -> None:
        super().__init__()
        # First, so that its weights are found under ``backbone.`` as in an encoder.
        self.backbone: Backbone = encoder.backbone
        self.encoder = encoder
        self.classifier = classifier

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.encoder.device

    @property
    def compute_dtype(self) -> str:
        """Of the encoder."""
        return self.encoder.compute_dtype

    @compute_dtype.setter
    def compute_dtype(self, name: str) -> None:
        self.encoder.compute_dtype = name

    def pack(self, texts: list[TokenizedText]) -> PackedTokens:
        """As the encoder does."""
        return self.encoder.pack(texts)

    def forward(self, packed: PackedTokens) -> Tensor:
        """Embeddings."""
        embeddings: Tensor = self.encoder(packed)
        return embeddings


class ClassificationObjective:
    """Cross-entropy of the classes.

    Args:
        encoder: tokenises.
        inputs: ``text``: queries alone; ``pair``: queries and positives.
    """

    def __init__(self, encoder: Encoder, *, inputs: Literal["text", "pair"]) -> None:
        self.encoder, self.inputs = encoder, inputs
        self.identity: object = {"kind": "classification", "inputs": inputs}

    def tokenize(self, part: Batch, first_row: int) -> list[TokenizedText]:
        """See ``LeafObjective``: all first texts, then all second ones."""
        texts = list(part.queries)
        if self.inputs == "pair":
            texts += part.positives
        return self.encoder.tokenize(texts)

    def forward(self, model: Any, micro_batch: MicroBatch) -> Tensor:
        """Embeddings, (n, D)."""
        embeddings: Tensor = model(model.pack(micro_batch.texts))
        return embeddings

    def loss(
        self, model: Any, outputs: Tensor, part: Batch, first_row: int, num_rows: int
    ) -> Tensor:
        """Nats per row, this rank's part of the global mean.

        Raises:
            DataError: the rows have no labels.
        """
        if part.query_labels is None:
            raise DataError("classification needs rows with labels")
        labels = torch.from_numpy(part.query_labels).to(outputs.device)
        second = outputs[len(part) :] if self.inputs == "pair" else None
        logits = model.classifier(outputs[: len(part)], second)
        return functional.cross_entropy(logits, labels, reduction="sum") / num_rows
