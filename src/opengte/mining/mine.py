"""Pairs and a corpus -> the same pairs with hard negatives, and a report of what was refused.

The corpus is embedded once into shards, pairs are mined block by block, each block is one file.
A run that was killed goes on at the first missing file and ends with the same bytes; memory
holds one shard, one block, and sixteen bytes for every mined negative.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from opengte.atomic import write_json
from opengte.contracts import Progress, TextEncoder
from opengte.data.writers import write_pairs
from opengte.errors import DataError
from opengte.mining.blocks import (
    NO_ROW,
    Block,
    KnownPositives,
    is_match,
    mine_block,
    read_block,
    write_block,
)
from opengte.mining.claims import share_work
from opengte.mining.corpus import MiningCorpus, corpus_of_pairs
from opengte.mining.mined_pairs import MinedPairs
from opengte.mining.report import MiningReport, make_report
from opengte.mining.rules import MiningRules, active_rules
from opengte.mining.tally import Tally
from opengte.mining.teachers import EncoderTeacher, Teacher
from opengte.records import Document, Pair

_FORMAT = 1
DEFAULT_BLOCK_PAIRS = 1024


@dataclass(frozen=True, slots=True)
class MiningResult:
    """What ``mine_negatives`` leaves.

    Attributes:
        pairs: all pairs in their order, with negatives.
        report: counts, quantiles and examples.
        path: the pairs as JSON lines.
        fingerprint: differs as soon as anything that went into the run differs.
        ranked_rows: int32, (N, R): every survivor of the rules, best first, -1 where there are
            fewer; R = 0 unless ``keep_ranked`` was asked for.
    """

    pairs: MinedPairs
    report: MiningReport
    path: Path
    fingerprint: str
    ranked_rows: NDArray[np.int32]


def mine_negatives(
    pairs: Sequence[Pair],
    corpus: Sequence[Document] | None,
    teacher: Teacher | TextEncoder,
    rules: MiningRules | None = None,
    *,
    folder: str | Path,
    known_pairs: Sequence[Pair] = (),
    cache_folder: str | Path | None = None,
    block_pairs: int = DEFAULT_BLOCK_PAIRS,
    keep_ranked: bool = False,
    progress: Progress | None = None,
) -> MiningResult:
    """Give each pair texts that look like an answer to the teacher and are none.

    Started several times on one folder (by the ranks of a job, on the cores of a machine), the
    processes share the work and all return the same result.

    Args:
        pairs: queries and what answers them. All pairs with one query count as its answers.
            Pairs marked ``score=0`` are passed on as they are.
        corpus: where negatives come from; None takes the distinct positives.
        teacher: who ranks; a ``TextEncoder`` is taken as ``EncoderTeacher(encoder)``.
        rules: which candidates may stay; None = the defaults of ``MiningRules``.
        folder: ``pairs.jsonl``, ``report.json`` and the blocks of an unfinished run.
        known_pairs: more pairs that say what answers what; when only some of the pairs are mined
            for, the others still know answers.
        cache_folder: where embedded corpora are kept for other runs; None = ``folder/corpus``.
        block_pairs: pairs searched at once and written as one file.
        keep_ranked: keep all survivors in the blocks, for refreshing during training.
        progress: told how many documents and pairs are done of all.

    Raises:
        DataError: no pairs, an empty corpus, or a teacher that gives unusable vectors.
    """
    if not pairs:
        raise DataError("there are no pairs to mine negatives for")
    rules = MiningRules() if rules is None else rules
    folder = Path(folder)
    ranked = MiningCorpus(corpus_of_pairs(pairs) if corpus is None else corpus, pairs)
    run = MiningRun(
        pairs,
        ranked,
        as_teacher(teacher),
        rules,
        folder,
        known_pairs=known_pairs,
        block_pairs=block_pairs,
        keep_ranked=keep_ranked,
    )
    run.mine(Path(cache_folder) if cache_folder is not None else folder / "corpus", progress)
    return run.finish()


def as_teacher(teacher: Teacher | TextEncoder) -> Teacher:
    """A teacher as it is; an encoder as the teacher that ranks by it."""
    return EncoderTeacher(teacher) if isinstance(teacher, TextEncoder) else teacher


class MiningRun:
    """One mining run in its folder: which blocks there are, and how they become one result."""

    def __init__(
        self,
        pairs: Sequence[Pair],
        corpus: MiningCorpus,
        teacher: Teacher,
        rules: MiningRules,
        folder: Path,
        *,
        known_pairs: Sequence[Pair] = (),
        block_pairs: int = DEFAULT_BLOCK_PAIRS,
        keep_ranked: bool = False,
    ) -> None:
        self.pairs = pairs
        self.corpus = corpus
        self.teacher = teacher
        self.rules = rules
        self.folder = folder
        self.known_pairs = known_pairs
        self.block_pairs = block_pairs
        self.keep_ranked = keep_ranked
        self.fingerprint = self._fingerprint()
        self.blocks = folder / f"blocks-{self.fingerprint}"

    @property
    def num_blocks(self) -> int:
        """How many blocks the pairs make."""
        return -(-len(self.pairs) // self.block_pairs)

    def block_path(self, number: int) -> Path:
        """Where block ``number`` is kept."""
        return self.blocks / f"block-{number:06d}.npz"

    def missing_blocks(self) -> list[int]:
        """Numbers of the blocks that are not on disk yet."""
        return [n for n in range(self.num_blocks) if not self.block_path(n).exists()]

    def mine(self, cache_folder: Path, progress: Progress | None = None) -> None:
        """Make every block that is missing, sharing the work with processes that do the same."""
        if not self.missing_blocks():
            return
        done, total = len(self.corpus), len(self.corpus) + len(self.pairs)
        ranker = self.teacher.open(
            self.corpus.texts,
            folder=cache_folder,
            num_ranked=self.corpus.num_documents,
            progress=None if progress is None else lambda done, _: progress(done, total),
        )
        known = KnownPositives(chain(self.pairs, self.known_pairs))

        def make(number: int) -> None:
            first = number * self.block_pairs
            block = mine_block(
                self.pairs[first : first + self.block_pairs],
                first,
                corpus=self.corpus,
                known=known,
                ranker=ranker,
                rules=self.rules,
                keep_ranked=self.keep_ranked,
            )
            write_block(self.block_path(number), block)

        def finished(number: int) -> None:
            nonlocal done
            done += min(self.block_pairs, len(self.pairs) - number * self.block_pairs)
            if progress is not None:
                progress(done, total)

        share_work(
            self.num_blocks,
            path_of=self.block_path,
            make=make,
            claims=self.blocks / "claims",
            done=finished,
        )

    def read_blocks(self) -> list[Block]:
        """All blocks, in the order of the pairs."""
        return [read_block(self.block_path(number)) for number in range(self.num_blocks)]

    def finish(self) -> MiningResult:
        """Join the blocks, write the pairs and the report, drop blocks of other settings."""
        blocks = self.read_blocks()
        rows = np.concatenate([block.rows for block in blocks])
        scores = np.concatenate([block.scores for block in blocks])
        report = make_report(
            _merged(blocks),
            pairs=self.pairs,
            corpus=self.corpus,
            counts=self._counts(rows),
            rules=active_rules(self.rules),
        )
        mined = MinedPairs(self.pairs, self.corpus.texts, rows, scores)
        path = self.folder / "pairs.jsonl"
        write_pairs(path, mined)
        report.write(self.folder / "report.json")
        write_json(
            self.folder / "mining.json",
            {
                "fingerprint": self.fingerprint,
                "teacher": self.teacher.fingerprint,
                "rules": asdict(self.rules),
            },
        )
        for other in self.folder.glob("blocks-*"):
            if other != self.blocks:
                shutil.rmtree(other, ignore_errors=True)
        return MiningResult(
            pairs=mined,
            report=report,
            path=path,
            fingerprint=self.fingerprint,
            ranked_rows=np.concatenate([block.ranked_rows for block in blocks]),
        )

    def _counts(self, rows: NDArray[np.int64]) -> dict[str, int]:
        mined = np.array([is_match(pair) for pair in self.pairs])
        found = (rows != NO_ROW).sum(axis=1)[mined]
        return {
            "num_not_matching": int((~mined).sum()),
            "num_negatives": int(found.sum()),
            "num_full": int((found == self.rules.num_negatives).sum()),
            "num_short": int(((found > 0) & (found < self.rules.num_negatives)).sum()),
            "num_empty": int((found == 0).sum()),
        }

    def _fingerprint(self) -> str:
        digest = hashlib.sha256()
        facts = {
            "format": _FORMAT,
            "teacher": self.teacher.fingerprint,
            "corpus": self.corpus.fingerprint,
            "rules": asdict(self.rules),
            "num_pairs": len(self.pairs),
            "block_pairs": self.block_pairs,
            "keep_ranked": self.keep_ranked,
        }
        digest.update(json.dumps(facts, sort_keys=True).encode())
        for pair in chain(self.pairs, self.known_pairs):
            facts_of_pair = (pair.query, pair.positive, pair.score, pair.group, pair.origin)
            digest.update(json.dumps(facts_of_pair).encode())
        return digest.hexdigest()[:16]


def _merged(blocks: Sequence[Block]) -> dict[str, Tally]:
    names = dict.fromkeys(name for block in blocks for name in block.tallies)
    return {
        name: Tally.merge([block.tallies[name] for block in blocks if name in block.tallies])
        for name in names
    }
