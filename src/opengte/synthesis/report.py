"""What synthesis did, for people and as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class SynthesisReport:
    """What synthesis did.

    Attributes:
        method, model: which, on which.
        num_documents: documents asked about.
        num_items: pieces of work that were planned and tried.
        num_failed: of them, those without a usable answer; ``failures`` says why, up to twenty.
        num_drafts: pairs that the model gave.
        num_pairs: pairs that were kept.
        dropped: drafts and negatives thrown away, by reason; ``dropped_examples``, up to twenty.
        cosine_quantiles: of query and positive, where an encoder looked at them.
        num_requests, num_retries, input_tokens, output_tokens, cost: of this run of the
            program alone, not of earlier ones that it went on from.
        stopped: why it ended early; empty when everything was done.
    """

    method: str
    model: str
    num_documents: int
    num_items: int
    num_failed: int
    failures: Sequence[str]
    num_drafts: int
    num_pairs: int
    dropped: Mapping[str, int]
    dropped_examples: Mapping[str, Sequence[Mapping[str, str]]]
    cosine_quantiles: Mapping[str, float]
    num_requests: int
    num_retries: int
    input_tokens: int
    output_tokens: int
    cost: float
    stopped: str = ""

    def as_json(self) -> dict[str, Any]:
        """Everything, ready for ``json.dumps``."""
        return asdict(self)

    def lines(self) -> list[str]:
        """A few lines for a terminal or a log."""
        dropped = ", ".join(f"{name} {count}" for name, count in self.dropped.items()) or "nothing"
        text = [
            f"{self.num_pairs} pairs of {self.num_drafts} drafts from {self.num_documents} "
            f"documents, by {self.method} with {self.model}",
            f"dropped: {dropped}; without a usable answer: {self.num_failed} of {self.num_items}",
            f"{self.num_requests} requests ({self.num_retries} sent again), "
            f"{self.input_tokens} tokens in, {self.output_tokens} out",
        ]
        return [*text, f"stopped early: {self.stopped}"] if self.stopped else text
