"""Mining anew with the model as it stands (ANCE): every k steps, for all pairs.

The corpus is embedded with the live encoder, negatives are mined by the same rules as before
training, and a numbered file says from which step they are used. All ranks share the work.
Source: ANCE, Xiong et al. 2020, arXiv:2007.00808; there a second job refreshes all the while,
here training waits, so that a run can be repeated. Axes: N mined pairs, n negatives of a pair.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from opengte.contracts import StepContext
from opengte.errors import ConfigError
from opengte.mining.blocks import NO_ROW
from opengte.mining.corpus import MiningCorpus, corpus_of_pairs
from opengte.mining.mine import DEFAULT_BLOCK_PAIRS, MiningResult, MiningRun
from opengte.mining.rules import MiningRules
from opengte.mining.shards import DEFAULT_SHARD_TEXTS, IndexFactory
from opengte.mining.side_files import NegativeTable, clean_folder, write_side_file
from opengte.mining.teachers import EncoderTeacher
from opengte.records import Document, Pair
from opengte.search.fastest import exact_index


@dataclass(frozen=True, kw_only=True)
class RemineConfig:
    """When and how to mine anew.

    Attributes:
        every_steps: steps between two refreshes (ANCE 10,000 batches of 8 x 4 pairs).
        lead_steps: batches fetched ahead of the one being learned from, at least 1.
        block_pairs, shard_texts: sizes of the pieces that ranks share.
    """

    every_steps: int = 1000
    lead_steps: int = 2
    block_pairs: int = DEFAULT_BLOCK_PAIRS
    shard_texts: int = DEFAULT_SHARD_TEXTS

    def __post_init__(self) -> None:
        for name in ("every_steps", "lead_steps", "block_pairs", "shard_texts"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be >= 1, got {getattr(self, name)}")


@dataclass
class RemineNegatives:
    """A ``TrainingCallback`` that mines anew with the live encoder.

    Args:
        mined: the mining before training; its pairs are mined for.
        corpus: as it was given to that mining.
        rules: which candidates may stay; the number of negatives must be that of ``mined``.
        config: when and how.
        known_pairs: as they were given to that mining.
        folder: the files; ``RefreshedBatches`` reads them.
        index_factory: how the shards are searched.
    """

    mined: MiningResult
    corpus: Sequence[Document] | None
    rules: MiningRules
    folder: Path
    config: RemineConfig = field(default_factory=RemineConfig)
    known_pairs: Sequence[Pair] = ()
    index_factory: IndexFactory = exact_index

    def __post_init__(self) -> None:
        self.folder = Path(self.folder)
        if self.rules.num_negatives != self.mined.pairs.rows.shape[1]:
            raise ConfigError(
                f"mining anew must give {self.mined.pairs.rows.shape[1]} negatives a pair, as the "
                f"mining before training did, got num_negatives={self.rules.num_negatives}"
            )
        pairs = self.mined.pairs.given
        documents = corpus_of_pairs(pairs) if self.corpus is None else self.corpus
        self._ranked = MiningCorpus(documents, pairs)
        if list(self._ranked.texts) != list(self.mined.pairs.texts):
            raise ConfigError("mining anew needs the corpus of the mining before training")
        self._table = NegativeTable(self.mined, self.folder)
        self._step = 0
        self._cleaned = False

    def state_dict(self) -> dict[str, Any]:
        """Finished steps; the negatives themselves are in the files."""
        return {"step": self._step}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint."""
        self._step = int(state["step"])

    def on_step(self, context: StepContext) -> Mapping[str, float] | None:
        """Mine anew every ``every_steps``, but not where no batch could use it any more."""
        if not self._cleaned:
            clean_folder(self.folder, context, self._step)
            self._cleaned = True
        self._step = context.step
        last = context.step + self.config.lead_steps >= context.num_steps
        if context.step % self.config.every_steps or last:
            return None
        return self._refresh(context)

    def _refresh(self, context: StepContext) -> Mapping[str, float]:
        self._table.advance_to_made(context.step - 1)
        before = self._table.rows.copy()
        work = self.folder / f"mining-{context.step:08d}"
        if context.rank == 0:
            # Half a refresh of a killed run may hold vectors of slightly other weights.
            shutil.rmtree(work, ignore_errors=True)
        context.barrier()
        teacher = EncoderTeacher(
            context.encoder,
            shard_texts=self.config.shard_texts,
            index_factory=self.index_factory,
        )
        run = MiningRun(
            self.mined.pairs.given,
            self._ranked,
            teacher,
            self.rules,
            work,
            known_pairs=self.known_pairs,
            block_pairs=self.config.block_pairs,
        )
        run.mine(work / "corpus")
        blocks = run.read_blocks()
        rows = np.concatenate([block.rows for block in blocks])
        scores = np.concatenate([block.scores for block in blocks])
        if context.rank == 0:
            write_side_file(
                self.folder,
                made=context.step,
                valid_from=context.step + self.config.lead_steps,
                fingerprint=self.mined.fingerprint,
                pairs=np.arange(len(rows), dtype=np.int64),
                rows=rows,
            )
        context.barrier()
        if context.rank == 0:
            shutil.rmtree(work, ignore_errors=True)
        found = rows != NO_ROW
        fresh = [len(np.setdiff1d(new, old)) for new, old in zip(rows, before, strict=True)]
        return {
            "negatives_mined": float(found.sum()),
            "negatives_new": sum(fresh) / max(1, int(found.sum())),
            "negatives_score": float(scores[found].mean()) if found.any() else 0.0,
        }
