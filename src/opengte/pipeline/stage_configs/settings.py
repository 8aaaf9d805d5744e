"""What all settings of a recipe share, and how one stage names another."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    """Unknown keys are refused; nothing changes after it was read."""

    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass(frozen=True)
class Reference:
    """Marks a field that names an earlier stage, and the kinds that stage may be of."""

    kinds: tuple[str, ...]


MODEL_KINDS = ("backbone", "contrastive", "merge", "mlm", "retromae", "distill", "classify-train")
"""Stages that leave an encoder."""
PAIRS_KINDS = ("corpus", "split", "mine", "synthesize", "filter")
"""Stages that leave ``train.jsonl``."""
SNAPSHOT_KINDS = ("contrastive", "distill")
"""Stages that can leave encoders of earlier moments: ``STAGE@0.8``."""

ModelReference = Annotated[str, Reference(MODEL_KINDS)]
RankerReference = Annotated[str, Reference((*MODEL_KINDS, "rerank-train"))]
HeldOutReference = Annotated[str, Reference(("corpus", "split"))]
CorpusReference = Annotated[str, Reference(("corpus",))]
PairsReference = Annotated[str, Reference(PAIRS_KINDS)]
MiningReference = Annotated[str, Reference(("mine",))]
EvaluationReference = Annotated[str, Reference(("evaluate",))]
MergeReference = Annotated[str, Reference(("merge",))]
ExportReference = Annotated[str, Reference(("export",))]
IndexReference = Annotated[str, Reference(("index",))]


def split_snapshot(reference: str) -> tuple[str, float | None]:
    """``finetune@0.8`` -> the stage and the share of its run; None for its end.

    Raises:
        ValueError: what follows the ``@`` is no number.
    """
    name, at, share = reference.partition("@")
    return (name, float(share)) if at else (name, None)


def stage_references(stage: BaseModel) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """Each (field, named stage, kinds it may be of) of ``stage``, nested settings included."""
    for name, info in type(stage).model_fields.items():
        value = getattr(stage, name)
        kinds = _kinds(info.annotation, info.metadata)
        if isinstance(value, Settings):
            for inner, target, allowed in stage_references(value):
                yield f"{name}.{inner}", target, allowed
        elif kinds is not None and value is not None:
            for target in (value,) if isinstance(value, str) else value:
                yield name, target, kinds


def _kinds(annotation: object, metadata: list[object]) -> tuple[str, ...] | None:
    for item in [*metadata, *getattr(annotation, "__metadata__", ())]:
        if isinstance(item, Reference):
            return item.kinds
    for inner in getattr(annotation, "__args__", ()):
        found = _kinds(inner, [])
        if found is not None:
            return found
    return None
