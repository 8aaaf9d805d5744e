"""Documents and a chat model -> training pairs, resumable, with a report.

Everything a model answers goes into the journal at once; pairs and report are made from the
journal alone. So a run that was killed, or whose endpoint died, goes on where it stopped and
pays for nothing twice.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from opengte.atomic import atomic_file, write_json, write_text
from opengte.contracts import ChatModel, Progress, TextEncoder
from opengte.data.writers import pair_row
from opengte.errors import ConfigError, DataError
from opengte.llm import ChatUsage
from opengte.records import Document, Pair
from opengte.synthesis.checks import (
    NUM_EXAMPLES,
    DraftChecker,
    Losses,
    MadePair,
    drop_dissimilar,
)
from opengte.synthesis.config import BrainstormConfig, SynthesisConfig
from opengte.synthesis.drafts import Draft, Item, Method
from opengte.synthesis.journal import Journal
from opengte.synthesis.methods import make_method
from opengte.synthesis.report import SynthesisReport
from opengte.synthesis.work import Work
from opengte.text.text_keys import text_key

_FORMAT = 1


@runtime_checkable
class MeteredChat(Protocol):
    """A ``ChatModel`` that knows what it has used, as ``ChatClient`` does."""

    @property
    def usage(self) -> ChatUsage:
        """What was used so far."""
        ...

    @property
    def num_retries(self) -> int:
        """Requests sent again."""
        ...

    @property
    def cost(self) -> float:
        """What was spent so far."""
        ...


@dataclass(frozen=True, slots=True)
class SynthesisResult:
    """What ``synthesize`` leaves.

    Attributes:
        pairs: in the order of the documents.
        report: counts, reasons, examples, cost.
        path: the pairs as JSON lines; each has a field ``made`` that says how.
    """

    pairs: list[Pair]
    report: SynthesisReport
    path: Path


def synthesize(
    documents: Sequence[Document],
    chat: ChatModel,
    config: SynthesisConfig | None = None,
    *,
    folder: str | Path,
    encoder: TextEncoder | None = None,
    retry_failed: bool = False,
    progress: Progress | None = None,
) -> SynthesisResult:
    """Ask ``chat`` for training pairs about ``documents``.

    Args:
        documents: what queries are wanted for; of equal texts the first counts.
        chat: who is asked. Rows name it by its ``model`` attribute, or else by its class.
        config: None = GPL with the defaults.
        folder: ``journal.jsonl``, ``pairs.jsonl``, ``report.json`` and the prompts used.
        encoder: for ``min_cosine``.
        retry_failed: ask once more where an earlier run got no usable answer.
        progress: told how many of the planned pieces of work are done.

    Raises:
        ConfigError: settings that contradict each other or the folder's journal.
        EndpointError: the endpoint fails for good; what it answered until then is kept, and the
            same call goes on. A spent budget is no error: the report says that it stopped.
    """
    config = SynthesisConfig() if config is None else config
    folder = Path(folder)
    if config.min_cosine is not None and encoder is None:
        raise ConfigError("min_cosine needs an encoder")
    documents = _chosen(documents, config)
    if not documents and _needs_documents(config):
        raise DataError("there are no documents with text to make queries for")
    method = make_method(config)
    header = _header(config, method, chat)
    with Journal(folder / "journal.jsonl", header) as journal:
        _write_prompts(folder, method)
        work = Work(method, documents, journal, config, retry_failed=retry_failed)
        stopped = work.do(chat, progress)
        items = [item for item in work.items if item.key in journal.records]
        made, checker = _pairs(items, journal.records, config, header)
    quantiles: dict[str, float] = {}
    if encoder is not None and config.min_cosine is not None:
        made, quantiles = drop_dissimilar(made, encoder, config.min_cosine, checker.losses)
    report = SynthesisReport(
        **_counts(header, documents, items, journal.records, made, checker.losses),
        **_spending(chat),
        cosine_quantiles=quantiles,
        stopped=stopped,
    )
    path = folder / "pairs.jsonl"
    _write_pairs(path, made)
    write_json(folder / "report.json", report.as_json())
    return SynthesisResult([one.pair for one in made], report, path)


def _chosen(documents: Sequence[Document], config: SynthesisConfig) -> list[Document]:
    """Distinct documents with some text, at most ``max_documents`` of them."""
    distinct = {text_key(d.full_text): d for d in reversed(documents) if d.full_text.strip()}
    chosen = list(distinct.values())[::-1]
    if 0 < config.max_documents < len(chosen):
        rng = np.random.default_rng(config.seed)
        rows = np.sort(rng.choice(len(chosen), size=config.max_documents, replace=False))
        chosen = [chosen[row] for row in rows.tolist()]
    return chosen


def _needs_documents(config: SynthesisConfig) -> bool:
    method = config.method
    return not isinstance(method, BrainstormConfig) or "grounded" in method.example_kinds


def _header(config: SynthesisConfig, method: Method, chat: ChatModel) -> dict[str, Any]:
    """What every record of a journal depends on."""
    return {
        "format": _FORMAT,
        "method": config.method.kind,
        "model": str(getattr(chat, "model", type(chat).__name__)),
        "method settings": asdict(config.method),
        "languages": list(config.languages),
        "max_document_characters": config.max_document_characters,
        "seed": config.seed,
        "prompts": {prompt.name: prompt.fingerprint for prompt in method.prompts},
    }


def _pairs(
    items: Sequence[Item],
    records: Mapping[str, Mapping[str, Any]],
    config: SynthesisConfig,
    header: Mapping[str, Any],
) -> tuple[list[MadePair], DraftChecker]:
    """Check all drafts in the order of the plan, whatever the order they came in."""
    checker = DraftChecker(config)
    made = []
    for item in items:
        for value in records[item.key].get("drafts", ()):
            draft = Draft.from_json(value)
            pair = checker.check(draft, item.document)
            if pair is not None:
                how = {
                    "method": header["method"],
                    "model": header["model"],
                    "seed": header["seed"],
                    "prompts": draft.prompts,
                    "settings": draft.settings,
                    "key": item.key,
                }
                made.append(MadePair(pair, how))
    return made, checker


def _counts(
    header: Mapping[str, Any],
    documents: Sequence[Document],
    items: Sequence[Item],
    records: Mapping[str, Mapping[str, Any]],
    made: Sequence[MadePair],
    losses: Losses,
) -> dict[str, Any]:
    failures = [records[item.key]["failed"] for item in items if "failed" in records[item.key]]
    return {
        "method": header["method"],
        "model": header["model"],
        "num_documents": len(documents),
        "num_items": len(items),
        "num_failed": len(failures),
        "failures": failures[:NUM_EXAMPLES],
        "num_drafts": sum(len(records[item.key].get("drafts", ())) for item in items),
        "num_pairs": len(made),
        "dropped": losses.counts,
        "dropped_examples": losses.examples,
    }


def _spending(chat: ChatModel) -> dict[str, Any]:
    metered = chat if isinstance(chat, MeteredChat) else None
    usage = ChatUsage() if metered is None else metered.usage
    return {
        "num_requests": usage.num_requests,
        "num_retries": 0 if metered is None else metered.num_retries,
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "cost": 0.0 if metered is None else metered.cost,
    }


def _write_prompts(folder: Path, method: Method) -> None:
    """The prompts that the rows name, as they were."""
    for prompt in method.prompts:
        path = folder / "prompts" / f"{prompt.name}-{prompt.fingerprint}.yaml"
        if not path.exists():
            write_text(path, prompt.content)


def _write_pairs(path: Path, made: Sequence[MadePair]) -> None:
    with atomic_file(path) as stream:
        for one in made:
            row = {**pair_row(one.pair), "made": one.made}
            stream.write(json.dumps(row, ensure_ascii=False).encode("utf-8", "replace") + b"\n")
