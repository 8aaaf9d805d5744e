"""A task and a training manifest -> whether the task's score is zero-shot.

* ``leaked``: something that is scored stood in the training data: a test pair with both its sides,
  or a query long enough not to be there by chance.
* ``in-domain train``: the task's own train split was trained on, or texts of its corpus were.
* ``zero-shot``: neither.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from opengte.evaluation.tasks import (
    BitextTask,
    ClassificationTask,
    ClusteringTask,
    PairClassificationTask,
    RerankingTask,
    RetrievalTask,
    StsTask,
    SummarisationTask,
    Task,
)
from opengte.evaluation.training_manifest import TrainingManifest, plain_text

ZERO_SHOT, IN_DOMAIN, LEAKED = "zero-shot", "in-domain train", "leaked"

_LONG = 30  # letters; a text this long is not in two sets by chance
_LONG_UNSPACED = 12  # the same for scripts whose letters are words
_IN_DOMAIN_SHARE = 0.05  # of a corpus that was trained on
_UNSPACED = re.compile(r"[\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")


def mark_task(task: Task, manifest: TrainingManifest) -> tuple[str, dict[str, int]]:
    """The mark of a task, and what spoke for it: numbers of texts by reason.

    Args:
        task: what is scored.
        manifest: what the model was trained on.
    """
    pairs = list(_scored_pairs(task))
    queries = [text for text in _scored_texts(task) if _is_long(text)]
    found = {
        "scored pairs in the training data": int(manifest.has_pairs(pairs).sum()),
        "scored texts in the training data": int(manifest.has_texts(queries).sum()),
    }
    reasons = {reason: count for reason, count in found.items() if count}
    if reasons:
        return LEAKED, reasons
    corpus = [text for text in _background_texts(task) if _is_long(text)]
    seen = int(manifest.has_texts(corpus).sum())
    if seen:
        reasons["background texts in the training data"] = seen
    named = plain_text(task.name) in {
        plain_text(_without_split(name)) for name in manifest.datasets
    }
    if named or (corpus and seen / len(corpus) >= _IN_DOMAIN_SHARE):
        return IN_DOMAIN, reasons
    return ZERO_SHOT, reasons


def _without_split(name: str) -> str:
    return re.sub(r"[-_/ ](train|training|dev|val|validation)$", "", name, flags=re.IGNORECASE)


def _is_long(text: str) -> bool:
    plain = plain_text(text)
    return len(plain) >= (_LONG_UNSPACED if _UNSPACED.search(plain) else _LONG)


def _scored_pairs(task: Task) -> Iterator[tuple[str, str]]:
    if isinstance(task, RetrievalTask):
        texts = {document.id: document for document in task.corpus}
        for query in task.queries:
            for name, grade in task.qrels[query.id].items():
                if grade > 0:
                    yield query.text, texts[name].text
                    yield query.text, texts[name].full_text
    elif isinstance(task, RerankingTask):
        for asked, texts_of, labels in zip(task.queries, task.candidates, task.labels, strict=True):
            yield from ((asked, t) for t, label in zip(texts_of, labels, strict=True) if label > 0)
    elif isinstance(task, StsTask | PairClassificationTask):
        yield from zip(task.sentences1, task.sentences2, strict=True)
    elif isinstance(task, BitextTask):
        for sources, targets in task.subsets.values():
            yield from zip(sources, targets, strict=True)


def _scored_texts(task: Task) -> Iterator[str]:
    if isinstance(task, RetrievalTask):
        yield from (query.text for query in task.queries)
    elif isinstance(task, RerankingTask):
        yield from task.queries
    elif isinstance(task, ClassificationTask | ClusteringTask):
        yield from task.texts
    elif isinstance(task, SummarisationTask):
        yield from (text for texts in task.machine for text in texts)


def _background_texts(task: Task) -> Iterator[str]:
    """Texts that are looked at but not scored themselves."""
    if isinstance(task, RetrievalTask):
        yield from (document.text for document in task.corpus)
    elif isinstance(task, RerankingTask):
        yield from (text for texts in task.candidates for text in texts)
    elif isinstance(task, StsTask | PairClassificationTask):
        yield from task.sentences1
        yield from task.sentences2
    elif isinstance(task, ClassificationTask):
        yield from task.train_texts
    elif isinstance(task, BitextTask):
        for sources, targets in task.subsets.values():
            yield from sources
            yield from targets
