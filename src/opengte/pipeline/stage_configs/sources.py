"""Where a stage's data come from: named sources of pairs, of texts; teachers; chat models."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from opengte.llm import ChatConfig
from opengte.pipeline.stage_configs.settings import RankerReference, Settings


class SourceConfig(Settings):
    """One named source of pairs.

    Attributes:
        path: a file or folder of pairs, or a pair store; None = planned, but not here.
        name: which source of a store; None = the key it stands under in the recipe.
        convert: how labelled rows become pairs: ``labels`` (the class's name is the document),
            ``examples`` (another text of the class is; other classes give the negatives),
            ``graded`` (both ways from ``min_score`` on), ``nli`` (entailment and contradiction).
        num_pairs: as published; what is read is compared with it.
        max_pairs: at most so many rows, drawn.
        task: family; ``one_task`` batches join sources of one.
        query_prompt, document_prompt: of this source; None = what the mixture says.
        symmetric: either side may stand as the query.
        in_batch_negatives: whether other rows' texts are negatives.
        scored: rows are used with their scores (CoSENT), not as matches.
        min_score: least score of a match.
        weight: multiplies what alpha gives.
    """

    path: str | None = None
    name: str | None = None
    convert: Literal["labels", "examples", "graded", "nli"] | None = None
    num_pairs: int | None = Field(default=None, ge=1)
    max_pairs: int | None = Field(default=None, ge=1)
    task: str = "retrieval"
    query_prompt: str | None = None
    document_prompt: str | None = None
    symmetric: bool = False
    in_batch_negatives: bool = True
    scored: bool = False
    min_score: float = Field(default=0.0, ge=0, le=1)
    weight: float = Field(default=1.0, ge=0)


class TextsConfig(Settings):
    """One named source of plain texts, for language modelling.

    Attributes:
        path: documents, pairs (both sides), text files, or a folder of them; None = planned.
        num_texts: as published.
        weight: multiplies what alpha gives.
    """

    path: str | None = None
    num_texts: int | None = Field(default=None, ge=1)
    weight: float = Field(default=1.0, ge=0)


class TeacherConfig(Settings):
    """A model that judges what another learns from.

    Attributes:
        stage: a model or reranker of this run, or ``base``.
        model: one from elsewhere: a folder or a hub id. One of the two, but for ``bm25``.
        kind: what it is.
        depth: candidates that a reranker reads for each query.
        max_tokens: longest input; None = its own.
    """

    stage: RankerReference | None = None
    model: str | None = None
    kind: Literal["encoder", "cross_encoder", "yes_no", "bm25"] = "encoder"
    depth: int = Field(default=100, ge=1)
    max_tokens: int | None = Field(default=None, ge=8)

    @model_validator(mode="after")
    def _names_one(self) -> TeacherConfig:
        given = [value for value in (self.stage, self.model) if value is not None]
        if len(given) != (0 if self.kind == "bm25" else 1):
            wanted = "neither stage nor model" if self.kind == "bm25" else "stage or model"
            raise ValueError(f"a teacher of kind {self.kind} names {wanted}")
        return self


class ExtractiveChat(Settings):
    """No language model: queries are cut out of the document's own words. For trying a recipe."""

    kind: Literal["extractive"] = "extractive"


class EndpointChat(Settings):
    """Any OpenAI-compatible chat endpoint."""

    kind: Literal["endpoint"]
    endpoint: ChatConfig


ChatSettings = Annotated[ExtractiveChat | EndpointChat, Field(discriminator="kind")]
