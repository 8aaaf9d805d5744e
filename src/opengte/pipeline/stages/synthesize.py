"""The synthesize stage: documents and a chat model -> pairs, and what was thrown away."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import chain
from typing import Any

from opengte.atomic import atomic_folder, write_json
from opengte.contracts import ChatModel
from opengte.data.readers import read_documents, read_pairs
from opengte.data.writers import write_pairs
from opengte.errors import ConfigError, DataError
from opengte.llm import ChatClient
from opengte.pipeline.files import file_marks, find_data
from opengte.pipeline.pair_sources import TRAIN
from opengte.pipeline.runner import StageContext
from opengte.pipeline.stage_configs import SynthesizeStage
from opengte.pipeline.stage_configs.sources import ChatSettings, EndpointChat
from opengte.records import Document, Pair
from opengte.synthesis.extractive import ExtractiveWriter
from opengte.synthesis.run import synthesize


def run(config: SynthesizeStage, context: StageContext) -> Mapping[str, Any]:
    """Ask about every document; what was answered before a kill is kept."""
    encoder = None
    if config.synthesis.min_cosine is not None and config.model is not None:
        encoder = context.encoder(config.model)
    result = synthesize(
        _documents(config, context),
        open_chat(config.chat),
        replace(config.synthesis, seed=context.seed),
        folder=context.work / "synthesis",
        encoder=encoder,
        progress=context.console.progress("asking", unit="documents"),
    )
    report = result.report.as_json()
    if not result.pairs:
        raise DataError(
            f"stages.{context.name}: no pair is left of {report['num_drafts']} drafts; dropped: "
            + ", ".join(f"{reason} {number}" for reason, number in report["dropped"].items())
        )
    kind = config.synthesis.method.kind
    with atomic_folder(context.output) as folder:
        made = (replace(pair, kind=pair.kind or kind) for pair in result.pairs)
        write_pairs(folder / TRAIN, chain(_kept(config, context), made))
        write_json(folder / "report.json", report)
    context.console.line(
        f"  {len(result.pairs):,} pairs from {report['num_documents']:,} documents, written by "
        f"{report['model']}"
    )
    told = ("method", "model", "num_documents", "num_drafts", "num_pairs", "num_failed", "dropped",
            "num_requests", "cost", "cosine_quantiles")  # fmt: skip
    return {name: report[name] for name in told}


def _kept(config: SynthesizeStage, context: StageContext) -> Iterator[Pair]:
    """The pairs that were there before, where they are passed on."""
    if config.keep_pairs and config.pairs is not None:
        yield from read_pairs(context.results[config.pairs].output / TRAIN)


def open_chat(config: ChatSettings) -> ChatModel:
    """The chat model that a recipe names."""
    if isinstance(config, EndpointChat):
        return ChatClient(config.endpoint)
    return ExtractiveWriter()


def external_inputs(config: SynthesizeStage) -> Any:
    """What changes when the documents do."""
    return file_marks([config.documents])


def _documents(config: SynthesizeStage, context: StageContext) -> list[Document]:
    if config.documents is not None:
        return list(read_documents(find_data(config.documents)))
    if config.pairs is None:
        if config.synthesis.method.kind == "brainstorm":
            return []
        raise ConfigError(
            f"stages.{context.name}.documents is not set: the recipe can be planned but not run"
        )
    texts = dict.fromkeys(
        pair.positive for pair in read_pairs(context.results[config.pairs].output / TRAIN)
    )
    return [Document(id=f"d{number:06d}", text=text) for number, text in enumerate(texts)]
