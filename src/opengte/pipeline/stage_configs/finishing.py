"""Stages that choose, measure and hand over."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from opengte.pipeline.stage_configs.settings import (
    CorpusReference,
    EvaluationReference,
    ExportReference,
    HeldOutReference,
    IndexReference,
    MergeReference,
    MiningReference,
    ModelReference,
    RankerReference,
    Reference,
    Settings,
)


class MergeStage(Settings):
    """Several models -> one: the one that dev prefers, or a mixture of them all.

    Attributes:
        method: ``select`` takes what dev prefers; ``slerp`` and ``linear`` mix ``models``.
        models: what is mixed, ``STAGE@SHARE`` for snapshots; with the base among them, linear
            mixing is interpolation with it.
        shares: of each of ``models``; ``()`` = equal.
        candidates: models to choose among.
        weights: shares of a candidate when it is interpolated with ``anchor``; 1 = itself.
        anchor: what candidates are interpolated with.
        data: its dev set chooses.
        max_general_loss: points of MRR@10 (0.01 = one point) that the general slice may lose
            against ``anchor``; a candidate that loses more is not taken.
    """

    kind: Literal["merge"]
    method: Literal["select", "slerp", "linear"] = "select"
    models: tuple[ModelReference, ...] = ()
    shares: tuple[float, ...] = ()
    candidates: tuple[ModelReference, ...] = ()
    anchor: ModelReference | None = None
    weights: tuple[float, ...] = (1.0, 0.75, 0.5)
    data: HeldOutReference | None = None
    max_general_loss: float = Field(default=0.01, ge=0)
    output: str | None = None

    @model_validator(mode="after")
    def _has_what_its_method_needs(self) -> MergeStage:
        if self.method == "select":
            if not self.candidates or self.anchor is None or self.data is None:
                raise ValueError("method: select needs candidates, anchor and data")
            if self.models or self.shares:
                raise ValueError("models and shares are for slerp and linear")
            return self
        if len(self.models) < 2:
            raise ValueError(f"method: {self.method} needs two or more models")
        if self.candidates or self.anchor is not None or self.data is not None:
            raise ValueError("candidates, anchor and data are for method: select")
        if self.shares and (len(self.shares) != len(self.models) or min(self.shares) <= 0):
            raise ValueError("shares must be > 0, one for each of models")
        return self


class EvaluateStage(Settings):
    """A model -> its numbers on held-out queries.

    Attributes:
        model: what is measured: an encoder, or a reranker.
        baseline: whose paired difference is told; a reranker's ranks first.
        data: a corpus or split stage whose test set is searched.
        retrievers: ``dense``, ``bm25``, ``hybrid``.
        general: whether the general slice is measured too.
        slices: whether the corpus's slices are measured.
        tasks: further evaluation sets, as ``gte evaluate --task`` takes them.
        benchmark: the published one, for people; nothing is downloaded.
        depth: candidates that a reranker reads for each query.
        zero_shot: classification tasks by the nearest name of a class, without training.
    """

    kind: Literal["evaluate"]
    model: RankerReference
    baseline: ModelReference | None = None
    data: HeldOutReference | None = None
    retrievers: tuple[Literal["dense", "bm25", "hybrid"], ...] = ("dense",)
    general: bool = False
    slices: bool = True
    tasks: tuple[str, ...] = ()
    benchmark: str = ""
    depth: int = Field(default=50, ge=2)
    zero_shot: bool = False
    output: str | None = None


class ExportStage(Settings):
    """A model -> files that other tools open, checked against it."""

    kind: Literal["export"]
    model: ModelReference
    format: Literal["onnx", "safetensors"] = "onnx"
    output: str | None = None


class IndexStage(Settings):
    """A model and documents -> a folder that can be searched."""

    kind: Literal["index"]
    model: ModelReference
    documents: CorpusReference
    output: str | None = None


class ReportStage(Settings):
    """What the run found -> ``summary.json`` and one page.

    Attributes:
        base, stage1, final: evaluations of the three models.
        corpus, pretraining, finetuning, mining, merge, export, index: the stages told about.
        corpus_name: what was searched, for the first sentence of the page.
        num_examples: searches shown that got better, and as many that got worse.
        example_searches: searches printed at the end, before and after.
    """

    kind: Literal["report"]
    corpus: CorpusReference
    base: EvaluationReference
    stage1: EvaluationReference
    final: EvaluationReference
    pretraining: Annotated[str, Reference(("contrastive",))]
    finetuning: Annotated[str, Reference(("contrastive",))] | None = None
    mining: MiningReference | None = None
    merge: MergeReference
    export: ExportReference
    index: IndexReference
    corpus_name: str = "the held-out packages"
    num_examples: int = Field(default=10, ge=1)
    example_searches: int = Field(default=3, ge=0)
    output: str | None = None
