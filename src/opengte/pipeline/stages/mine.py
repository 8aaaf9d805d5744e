"""The mine stage: pairs -> the same pairs with hard negatives, and a report of what was refused."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from opengte.atomic import atomic_folder, write_json
from opengte.data.readers import read_documents
from opengte.data.writers import write_pairs
from opengte.mining.bm25_teacher import BM25Teacher
from opengte.mining.mine import MiningResult, mine_negatives
from opengte.mining.rules import MiningRules
from opengte.mining.teachers import EncoderTeacher, Teacher, WeightedTeacher
from opengte.pipeline.files import file_marks, find_data
from opengte.pipeline.pair_sources import TRAIN, external_inputs, load_pairs
from opengte.pipeline.rankers import open_teacher
from opengte.pipeline.runner import StageContext
from opengte.pipeline.stage_configs import MineStage
from opengte.records import Document, Pair


@dataclass(frozen=True)
class Mined:
    """A mining run that can be gone back to.

    Attributes:
        result: what it left.
        rules: as they were used.
        corpus: what was searched; None = the positives.
        known_pairs: all pairs, mined for or not.
    """

    result: MiningResult
    rules: MiningRules
    corpus: Sequence[Document] | None
    known_pairs: Sequence[Pair]

    @property
    def texts(self) -> list[str]:
        """The documents that were searched."""
        if self.corpus is not None:
            return [document.full_text for document in self.corpus]
        return list(dict.fromkeys(pair.positive for pair in self.known_pairs))


def run(config: MineStage, context: StageContext) -> Mapping[str, Any]:
    """Rank the documents for a draw of the pairs' queries."""
    mined = mine(config, context)
    pairs = list(mined.result.pairs)
    num_random = 0
    if config.random_negatives:
        pairs, num_random = _with_random(pairs, mined, config.random_negatives, context.seed)
    report = mined.result.report.as_json()
    with atomic_folder(context.output) as folder:
        write_pairs(folder / TRAIN, pairs)
        write_json(folder / "report.json", report)
    found = sum(len(pair.negatives) for pair in pairs) - num_random
    context.console.line(f"  {found:,} hard negatives for {len(pairs):,} queries")
    return {
        "num_queries": len(pairs),
        "num_negatives": found,
        "num_random_negatives": num_random,
        "report": report,
    }


def mine(config: MineStage, context: StageContext) -> Mined:
    """Mine, or read what was mined in the stage's work folder."""
    pairs = load_pairs(config, context)
    positions = sorted(
        random.Random(context.seed).sample(range(len(pairs)), min(config.max_queries, len(pairs)))
    )
    corpus = None if config.documents is None else list(read_documents(find_data(config.documents)))
    rules = replace(config.rules, seed=context.seed)
    result = mine_negatives(
        [pairs[i] for i in positions],
        corpus,
        _teacher(config, context),
        rules,
        folder=context.work / "mining",
        known_pairs=pairs,
        keep_ranked=config.keep_ranked,
        progress=context.console.progress("mining", unit="texts"),
    )
    return Mined(result, rules, corpus, pairs)


def external_files(config: MineStage) -> Any:
    """What changes when a file that the stage reads does."""
    return [external_inputs(config), file_marks([config.documents])]


def _teacher(config: MineStage, context: StageContext) -> Teacher:
    if config.teacher is not None:
        teacher = open_teacher(config.teacher, context, first=config.model)
    else:
        assert config.model is not None
        teacher = EncoderTeacher(context.encoder(config.model))
    if config.bm25_weight == 0:
        return teacher
    words = BM25Teacher(tokenizer="code")
    if config.bm25_weight == 1:
        return words
    return WeightedTeacher((teacher, words), (1 - config.bm25_weight, config.bm25_weight))


def _with_random(
    pairs: Sequence[Pair], mined: Mined, number: int, seed: int
) -> tuple[list[Pair], int]:
    """Further negatives from anywhere in the corpus, none of them an answer of the query."""
    texts = mined.texts
    answers: dict[str, set[str]] = {}
    for pair in mined.known_pairs:
        answers.setdefault(pair.query, set()).add(pair.positive)
    chooser = random.Random(seed)
    found, total = [], 0
    for pair in pairs:
        taken = {*answers.get(pair.query, ()), pair.query, *pair.negatives}
        drawn = chooser.sample(texts, min(len(texts), number + len(taken)))
        extra = tuple(text for text in drawn if text not in taken)[:number]
        total += len(extra)
        # No teacher has scored the drawn ones, so that the scores of the others go too.
        found.append(replace(pair, negatives=(*pair.negatives, *extra), negative_scores=()))
    return found, total
