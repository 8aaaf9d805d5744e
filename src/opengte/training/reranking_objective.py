"""Pairs with negatives -> lists to be ordered by a reranker.

Axes: B queries, L candidates of each, the positive first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from opengte.losses.reranking import listwise_loss, yes_no_loss
from opengte.models.packing import pack
from opengte.records import Batch
from opengte.text.truncation import TokenizedText
from opengte.training.batching import MicroBatch


class PairTokenizer(Protocol):
    """A model that reads a query and a document together."""

    def tokenize(self, pairs: Sequence[tuple[str, str]]) -> list[TokenizedText]:
        """Pairs as one text each."""
        ...


class RerankingObjective:
    """List-wise InfoNCE (mGTE) for cross-encoders, yes against no (Qwen3) for decoders.

    A query's candidates are its positive, its own negatives, and as many positives of other rows
    of the batch as are missing.

    Args:
        tokenizer: the model that learns.
        form: ``cross_encoder`` or ``yes_no``.
        list_size: L, at most.
        seed: of what lists are filled up with.
    """

    def __init__(
        self,
        tokenizer: PairTokenizer,
        *,
        form: Literal["cross_encoder", "yes_no"],
        list_size: int,
        seed: int,
    ) -> None:
        self.tokenizer, self.form = tokenizer, form
        self.list_size, self.seed = list_size, seed
        self.identity: object = {"kind": "reranking", "form": form, "list_size": list_size}

    def tokenize(self, part: Batch, first_row: int) -> list[TokenizedText]:
        """See ``LeafObjective``: list by list."""
        lists = self.lists(part, first_row)
        pairs = [
            (query, text)
            for query, texts in zip(part.queries, lists, strict=True)
            for text in texts
        ]
        return self.tokenizer.tokenize(pairs)

    def lists(self, part: Batch, first_row: int) -> list[list[str]]:
        """The candidates of each row, the positive first."""
        found = []
        for row, (query, positive, negatives) in enumerate(
            zip(part.queries, part.positives, part.negatives, strict=True)
        ):
            own = [positive, *dict.fromkeys(n for n in negatives if n != positive)]
            own = own[: self.list_size]
            draw = np.random.default_rng([self.seed, part.step, first_row + row])
            known = {query, *own}
            for other in draw.permutation(len(part)).tolist():
                if len(own) >= self.list_size:
                    break
                text = part.positives[other]
                if text not in known:
                    known.add(text)
                    own.append(text)
            found.append(own)
        return found

    def forward(self, model: Any, micro_batch: MicroBatch) -> Tensor:
        """Logits: (n, 1) of a cross-encoder, (n, 2) no and yes."""
        logits: Tensor = model(pack(micro_batch.texts).to(model.device))
        return logits

    def loss(
        self, model: Any, outputs: Tensor, part: Batch, first_row: int, num_rows: int
    ) -> Tensor:
        """Nats per query (or per pair of yes and no), this rank's part of the global mean."""
        sizes = [len(texts) for texts in self.lists(part, first_row)]
        share = len(sizes) / num_rows
        if self.form == "yes_no":
            labels = torch.zeros(len(outputs), dtype=torch.bool, device=outputs.device)
            labels[np.cumsum([0, *sizes[:-1]])] = True
            return share * yes_no_loss(outputs[:, 1], outputs[:, 0], labels)
        scores = torch.nn.utils.rnn.pad_sequence(list(outputs[:, 0].split(sizes)), batch_first=True)
        places = torch.arange(scores.shape[1], device=scores.device)
        candidates = places < torch.tensor(sizes, device=scores.device)[:, None]
        return share * listwise_loss(scores, candidates=candidates)
