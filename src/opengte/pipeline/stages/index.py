"""The index stage: a model and the corpus's documents -> a folder that ``gte search`` opens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from opengte.data.readers.documents import read_documents
from opengte.pipeline.runner import StageContext
from opengte.pipeline.stage_configs import IndexStage
from opengte.search.searcher import Searcher


def run(config: IndexStage, context: StageContext) -> Mapping[str, Any]:
    """Embed what the corpus stage put aside for searching, and index its words."""
    encoder = context.encoder(config.model)
    path = context.results[config.documents].output / "documents.jsonl"
    progress = context.console.progress("indexing", unit="documents")
    searcher = Searcher.build(
        read_documents(path), context.output, encoder=encoder, tokenizer="code", progress=progress
    )
    return {"num_documents": len(searcher), "space": encoder.space.fingerprint}
