"""Stages that make pairs: from raw files, by mining, by a language model, by filtering."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field, model_validator

from opengte.mining.rules import MiningRules
from opengte.pipeline.stage_configs.settings import ModelReference, PairsReference, Settings
from opengte.pipeline.stage_configs.sources import (
    ChatSettings,
    ExtractiveChat,
    SourceConfig,
    TeacherConfig,
)
from opengte.synthesis.config import SynthesisConfig

Sources = Mapping[str, SourceConfig]


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
        masked_names: share of the functions trained on whose own name is masked, 0 to 1, so that
            the model learns to read more than names.
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
    masked_names: float = Field(default=0.3, ge=0, le=1)
    output: str | None = None


class FromPairs(Settings):
    """What every stage has that reads pairs: another stage's, sources of its own, or both.

    Attributes:
        pairs: a stage that left pairs.
        sources: named sources in its place, or beside it.
        kinds: families of pairs that are used, with ``pairs``; ``()`` takes all.
    """

    pairs: PairsReference | None = None
    sources: Sources = Field(default_factory=dict)
    kinds: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _reads_one(self) -> FromPairs:
        if self.pairs is None and not self.sources:
            raise ValueError("give pairs (a stage) or sources, or both")
        if self.pairs is None and self.kinds:
            raise ValueError("kinds choose among the pairs of a stage; with sources leave it out")
        return self


class SplitStage(FromPairs):
    """Pairs -> training pairs, and a dev and a test set held out by whole groups.

    Rows are held out of sources whose rows are matches and may be each other's negatives; the
    others train. A row without a group is its own.

    Attributes:
        test_queries, dev_queries: wanted sizes; fewer where the sources are small.
        pool_documents: documents among which they search.
        near_duplicate_threshold: Jaccard similarity from which texts may not cross the split.
    """

    kind: Literal["split"]
    test_queries: int = Field(default=100, ge=1)
    dev_queries: int = Field(default=0, ge=0)
    pool_documents: int = Field(default=1_000, ge=2)
    near_duplicate_threshold: float = Field(default=0.7, gt=0, le=1)
    output: str | None = None


class MineStage(FromPairs):
    """Pairs and the documents they answer with -> the pairs with hard negatives.

    Attributes:
        model: the encoder that ranks; BM25 is added with ``bm25_weight``.
        teacher: who ranks in its place; a reranker reorders what ``model`` ranks first.
        documents: a collection to be mined; None = what the pairs answer with.
        num_documents: as published.
        max_queries: pairs mined, drawn over all sources.
        bm25_weight: share of BM25 in the teacher's score, 0 to 1.
        random_negatives: further documents of each pair, drawn from all (mGTE's reranker: 4).
        keep_ranked: keep all survivors, which ``refresh: {dynamic: ...}`` replaces from.
        rules: which candidates may stay.
    """

    kind: Literal["mine"]
    model: ModelReference | None = None
    teacher: TeacherConfig | None = None
    documents: str | None = None
    num_documents: int | None = Field(default=None, ge=1)
    max_queries: int = Field(default=4_000, ge=1)
    bm25_weight: float = Field(default=0.0, ge=0, le=1)
    random_negatives: int = Field(default=0, ge=0)
    keep_ranked: bool = False
    rules: MiningRules = MiningRules()
    output: str | None = None

    @model_validator(mode="after")
    def _has_a_teacher(self) -> MineStage:
        reranks = self.teacher is not None and self.teacher.kind in ("cross_encoder", "yes_no")
        if self.model is None and (self.teacher is None or reranks):
            raise ValueError("model is missing: the encoder that ranks the documents first")
        return self


class SynthesizeStage(Settings):
    """Documents -> pairs whose queries a language model wrote.

    Attributes:
        documents: a collection, or None with ``pairs``.
        pairs: a stage whose positives are the documents.
        keep_pairs: the pairs of that stage are passed on too, before the made ones.
        num_documents, num_pairs: as published.
        model: measures ``synthesis.min_cosine``.
        synthesis: method and checks.
        chat: who writes.
    """

    kind: Literal["synthesize"]
    documents: str | None = None
    pairs: PairsReference | None = None
    keep_pairs: bool = False
    num_documents: int | None = Field(default=None, ge=1)
    num_pairs: int | None = Field(default=None, ge=1)
    model: ModelReference | None = None
    synthesis: SynthesisConfig = SynthesisConfig()
    chat: ChatSettings = ExtractiveChat()
    output: str | None = None

    @model_validator(mode="after")
    def _reads_one(self) -> SynthesizeStage:
        if self.pairs is not None and self.documents is not None:
            raise ValueError("give documents or pairs, one of the two")
        if self.keep_pairs and self.pairs is None:
            raise ValueError("keep_pairs needs pairs: the stage whose pairs are kept")
        if self.synthesis.min_cosine is not None and self.model is None:
            raise ValueError("synthesis.min_cosine needs a model to measure it with")
        return self


class FilterStage(FromPairs):
    """Pairs -> those worth training on, the others counted with their reason.

    Attributes:
        model: the judge.
        teacher: another judge in its place.
        rule: ``consistency`` keeps pairs whose positive ranks in the ``top_k`` of ``pool_size``
            random positives (E5: 2 of 1,000,000); ``score`` those from ``min_score`` on (Conan
            0.4, BGE 0.43, Qwen3 0.7). Linq's filter is consistency with its teacher.
        top_k, pool_size, min_score: of the rules.
    """

    kind: Literal["filter"]
    model: ModelReference | None = None
    teacher: TeacherConfig | None = None
    rule: Literal["consistency", "score"] = "consistency"
    top_k: int = Field(default=2, ge=1)
    pool_size: int = Field(default=1_000_000, ge=2)
    min_score: float | None = None
    output: str | None = None

    @model_validator(mode="after")
    def _can_judge(self) -> FilterStage:
        if (self.model is None) == (self.teacher is None):
            raise ValueError("give model or teacher as the judge, one of the two")
        if (self.rule == "score") != (self.min_score is not None):
            raise ValueError("min_score belongs to rule: score, and it needs one")
        return self
