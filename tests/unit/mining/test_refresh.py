"""Negatives refreshed during training: Conan's rule, ANCE, several ranks, resume."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from opengte.contracts import StepContext, TrainingCallback
from opengte.errors import ConfigError, DataError
from opengte.mining.dynamic import DynamicConfig, DynamicNegatives
from opengte.mining.mine import MiningResult, mine_negatives
from opengte.mining.remine import RemineConfig, RemineNegatives
from opengte.mining.rules import MiningRules
from opengte.mining.side_files import RefreshedBatches, side_files, write_side_file
from opengte.records import Batch, Pair
from opengte.runtime.hashed import HashEncoder

RULES = MiningRules(num_negatives=2, last_rank=30, perc_pos=None, near_duplicate=None)
PAIRS = [
    Pair(query=f"alpha{i} beta{i % 3} gamma{i % 4}", positive=f"answer{i} beta{i % 3} delta{i % 5}")
    for i in range(40)
]


class LearningEncoder(HashEncoder):
    """Vectors move with the steps learned: what is trained on drifts from its negatives."""

    def __init__(self) -> None:
        super().__init__(48)
        self.step = 0
        self.other = HashEncoder(48, seed=7)

    def encode(self, texts: Sequence[str], **settings: Any) -> NDArray[np.float32]:  # type: ignore[override]
        share = min(1.0, self.step / 20) if settings.get("kind") == "query" else 0.0
        vectors = super().encode(texts, **settings)
        moved = (1 - share) * vectors + share * self.other.encode(texts, **settings)
        return (moved / np.linalg.norm(moved, axis=1, keepdims=True)).astype(np.float32)


class CyclingBatches:
    """Eight pairs a batch, in order, with a prompt before each text."""

    fingerprint = "cycling"

    def __init__(self, mined: MiningResult) -> None:
        self.mined = mined

    def batch(self, step: int) -> Batch:
        rows = (np.arange(8) + 8 * step) % len(self.mined.pairs)
        pairs = [self.mined.pairs[row] for row in rows.tolist()]
        return Batch(
            step=step,
            source="s",
            queries=["query: " + pair.query for pair in pairs],
            positives=["doc: " + pair.positive for pair in pairs],
            negatives=[tuple("doc: " + text for text in pair.negatives) for pair in pairs],
            row_ids=rows,
            row_sources=["s"] * 8,
            query_prompt_characters=7,
            document_prompt_characters=[5] * 8,
        )


Maker = Callable[[Path], TrainingCallback]


def train(
    mined: MiningResult,
    make: Maker,
    folder: Path,
    *,
    steps: int,
    world_size: int = 1,
    state: dict[str, Any] | None = None,
    first: int = 0,
) -> tuple[list[Batch], dict[str, Any], list[Any]]:
    """The training loop as callbacks and batch sources see it: the next batch is fetched ahead."""
    barrier = threading.Barrier(world_size)

    def rank(number: int) -> tuple[list[Batch], dict[str, Any], list[Any]]:
        callback = make(folder)
        if state is not None:
            callback.load_state_dict(state)
        batches = RefreshedBatches(CyclingBatches(mined), mined, folder)
        encoder = LearningEncoder()
        seen, numbers = [], []
        ahead = batches.batch(first)
        for step in range(first, steps):
            current, ahead = ahead, batches.batch(step + 1)
            seen.append(current)
            encoder.step = step + 1
            context = StepContext(
                step=step + 1,
                num_steps=1000,
                loss=0.0,
                rank=number,
                world_size=world_size,
                run_folder=folder,
                encoder=encoder,
                barrier=barrier.wait,
                batch=current,
            )
            numbers.append(callback.on_step(context))
        return seen, callback.state_dict(), numbers

    with ThreadPoolExecutor(world_size) as pool:
        return list(pool.map(rank, range(world_size)))[-1]


@pytest.fixture(scope="module")
def mined(tmp_path_factory: pytest.TempPathFactory) -> MiningResult:
    folder = tmp_path_factory.mktemp("mined")
    return mine_negatives(PAIRS, None, HashEncoder(48), RULES, folder=folder, keep_ranked=True)


def dynamic(mined: MiningResult, **settings: Any) -> Maker:
    config = DynamicConfig(every_steps=5, offset=4, **settings)
    return lambda folder: DynamicNegatives(mined, config, folder=folder)


def remine(mined: MiningResult, **settings: Any) -> Maker:
    config = RemineConfig(every_steps=4, block_pairs=7, shard_texts=9, **settings)
    return lambda folder: RemineNegatives(mined, None, RULES, folder, config)


def test_without_files_batches_are_as_they_were(mined: MiningResult, tmp_path: Path) -> None:
    plain = CyclingBatches(mined)
    refreshed = RefreshedBatches(plain, mined, tmp_path)
    for step in range(6):
        assert refreshed.batch(step).negatives == plain.batch(step).negatives
    assert refreshed.fingerprint == f"cycling+{mined.fingerprint}"


def test_conans_rule_equals_its_definition(mined: MiningResult, tmp_path: Path) -> None:
    """Slow loops beside the callback: score, compare, take the next window."""
    batches, _, _ = train(mined, dynamic(mined), tmp_path, steps=30)
    encoder = LearningEncoder()
    negatives = {n: list(mined.pairs.rows[n]) for n in range(len(PAIRS))}
    first: dict[int, float] = {}
    replaced = dict.fromkeys(range(len(PAIRS)), 0)
    pending: list[tuple[int, int, list[int]]] = []
    for step in range(1, 31):
        for _, number, rows in [p for p in pending if p[0] == step - 1]:
            negatives[number] = rows
        for i, text in enumerate(batches[step - 1].queries):
            number = next(n for n in range(len(PAIRS)) if "query: " + PAIRS[n].query == text)
            expected = tuple("doc: " + mined.pairs.texts[row] for row in negatives[number])
            assert batches[step - 1].negatives[i] == expected, (step, number)
        if step % 5:
            continue
        encoder.step = step
        recent = {(8 * s + i) % 40 for s in range(step - 5, step) for i in range(8)}
        for number in sorted(recent):
            newest = next(
                (rows for _, n, rows in reversed(pending) if n == number),
                list(mined.pairs.rows[number]),
            )
            texts = [mined.pairs.texts[row] for row in newest]
            query = encoder.encode([PAIRS[number].query], kind="query")[0]
            score = float(np.mean(encoder.encode(texts, kind="document") @ query))
            if number not in first:
                first[number] = score
            elif score * 1.15 < first[number] and abs(score) < 0.8:
                start = replaced[number] * 2 + 4
                window = mined.ranked_rows[number][start : start + 2]
                if len(window) == 2 and (window >= 0).all():
                    pending.append((step + 2, number, window.tolist()))
                    replaced[number] += 1
                    del first[number]
    assert sum(replaced.values()) > 10
    assert max(replaced.values()) > 1


def test_numbers_tell_what_was_done(mined: MiningResult, tmp_path: Path) -> None:
    _, _, numbers = train(mined, dynamic(mined), tmp_path, steps=10)
    assert [n is None for n in numbers] == [True] * 4 + [False] + [True] * 4 + [False]
    assert numbers[4]["negatives_checked"] == 40
    assert numbers[4]["negatives_replaced"] == 0, "first seen, nothing to compare with"
    assert numbers[9]["negatives_replaced"] > 0
    assert -1 < numbers[9]["negatives_score"] < 1


def test_exhausted_lists_are_counted_and_keep_their_negatives(
    mined: MiningResult, tmp_path: Path
) -> None:
    short = replace(mined, ranked_rows=mined.ranked_rows[:, :6])
    config = DynamicConfig(every_steps=5, offset=5)
    _, _, numbers = train(
        mined, lambda folder: DynamicNegatives(short, config, folder=folder), tmp_path, steps=10
    )
    assert numbers[9]["negatives_replaced"] == 0
    assert numbers[9]["negatives_exhausted"] > 0


def test_only_the_last_pairs_are_checked(mined: MiningResult, tmp_path: Path) -> None:
    _, state, numbers = train(mined, dynamic(mined, max_pairs=10), tmp_path, steps=7)
    assert numbers[4]["negatives_checked"] == 10
    assert state == {"step": 7, "recent": [6, 7, *range(8, 16)]}


@pytest.mark.parametrize("make", [dynamic, remine], ids=["dynamic", "remine"])
def test_several_ranks_see_what_one_sees(
    mined: MiningResult, tmp_path: Path, make: Callable[..., Maker]
) -> None:
    one, _, alone = train(mined, make(mined), tmp_path / "1", steps=16)
    three, _, together = train(mined, make(mined), tmp_path / "3", steps=16, world_size=3)
    assert [batch.negatives for batch in one] == [batch.negatives for batch in three]
    assert alone == together
    assert not list((tmp_path / "3").glob("scores-*"))
    assert not list((tmp_path / "3").glob("mining-*"))


@pytest.mark.parametrize("make", [dynamic, remine], ids=["dynamic", "remine"])
@pytest.mark.parametrize(("saved", "killed"), [(3, 13), (5, 11), (8, 9)])
def test_killed_and_resumed_sees_what_an_unbroken_run_sees(
    mined: MiningResult, tmp_path: Path, make: Callable[..., Maker], saved: int, killed: int
) -> None:
    whole, _, _ = train(mined, make(mined), tmp_path / "whole", steps=20)
    folder = tmp_path / "broken"
    _, state, _ = train(mined, make(mined), folder, steps=saved)
    train(mined, make(mined), folder, steps=killed, first=saved, state=state)
    rest, _, _ = train(mined, make(mined), folder, steps=20, first=saved, state=state)
    assert [b.negatives for b in rest] == [b.negatives for b in whole[saved:]]


def test_files_of_a_run_without_checkpoint_are_dropped(mined: MiningResult, tmp_path: Path) -> None:
    train(mined, dynamic(mined), tmp_path, steps=10)
    assert len(side_files(tmp_path)) == 2
    train(mined, dynamic(mined), tmp_path, steps=3)
    assert side_files(tmp_path) == []


def test_remining_equals_mining_with_the_live_encoder(mined: MiningResult, tmp_path: Path) -> None:
    batches, _, numbers = train(mined, remine(mined), tmp_path / "run", steps=8)
    encoder = LearningEncoder()
    encoder.step = 4
    again = mine_negatives(PAIRS, None, encoder, RULES, folder=tmp_path / "again")
    for batch, step in ((batches[5], 5), (batches[6], 6)):
        source = mined if step < 6 else again
        expected = [
            tuple("doc: " + text for text in source.pairs[row].negatives)
            for row in batch.row_ids.tolist()
        ]
        assert batch.negatives == expected
    assert numbers[3]["negatives_mined"] == 80
    assert 0 < numbers[3]["negatives_new"] <= 1


def test_remining_stops_where_no_batch_could_use_it(mined: MiningResult, tmp_path: Path) -> None:
    callback = remine(mined)(tmp_path)
    context = StepContext(
        step=4,
        num_steps=6,
        loss=0.0,
        rank=0,
        world_size=1,
        run_folder=tmp_path,
        encoder=LearningEncoder(),
        barrier=lambda: None,
        batch=CyclingBatches(mined).batch(3),
    )
    assert callback.on_step(context) is None
    assert callback.on_step(replace(context, num_steps=7)) is not None


def test_given_negatives_stay_in_front(tmp_path: Path) -> None:
    pairs = [replace(pair, negatives=("given",)) for pair in PAIRS]
    mined = mine_negatives(
        pairs, None, HashEncoder(48), RULES, folder=tmp_path / "mined", keep_ranked=True
    )
    batches, _, _ = train(mined, remine(mined), tmp_path / "run", steps=12)
    assert {negatives[0] for batch in batches for negatives in batch.negatives} == {"doc: given"}
    assert {len(negatives) for batch in batches for negatives in batch.negatives} == {3}


def test_a_source_that_chooses_among_negatives_keeps_its_choice(
    mined: MiningResult, tmp_path: Path
) -> None:
    class Choosing(CyclingBatches):
        def batch(self, step: int) -> Batch:
            batch = super().batch(step)
            return replace(batch, negatives=[own[step % 2 :][:1] for own in batch.negatives])

    train(mined, remine(mined), tmp_path, steps=8)
    whole = RefreshedBatches(CyclingBatches(mined), mined, tmp_path)
    chosen = RefreshedBatches(Choosing(mined), mined, tmp_path)
    for step in (6, 7):
        assert whole.batch(step).negatives != CyclingBatches(mined).batch(step).negatives
        assert chosen.batch(step).negatives == [
            negatives[step % 2 :][:1] for negatives in whole.batch(step).negatives
        ]


def test_pairs_that_were_not_mined_keep_their_negatives(
    mined: MiningResult, tmp_path: Path
) -> None:
    class Foreign(CyclingBatches):
        def batch(self, step: int) -> Batch:
            batch = super().batch(step)
            return replace(batch, queries=["query: elsewhere"] * 8, negatives=[("own",)] * 8)

    assert RefreshedBatches(Foreign(mined), mined, tmp_path).batch(0).negatives == [("own",)] * 8


def test_negatives_of_another_mining_run_are_refused(mined: MiningResult, tmp_path: Path) -> None:
    train(mined, dynamic(mined), tmp_path, steps=5)
    other = replace(mined, fingerprint="other")
    with pytest.raises(DataError, match=r"from-00000007\.npz: these negatives belong to another"):
        RefreshedBatches(CyclingBatches(other), other, tmp_path).batch(9)
    next(tmp_path.glob("negatives-*")).write_bytes(b"junk")
    with pytest.raises(DataError, match="a file of new negatives cannot be read"):
        RefreshedBatches(CyclingBatches(mined), mined, tmp_path).batch(9)


def test_settings_that_cannot_work_are_refused(mined: MiningResult, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="every_steps must be >= 1, got 0"):
        DynamicConfig(every_steps=0)
    with pytest.raises(ConfigError, match=r"factor must be >= 1, got 0\.9"):
        DynamicConfig(factor=0.9)
    with pytest.raises(ConfigError, match="offset must be >= 0, got -1"):
        DynamicConfig(offset=-1)
    with pytest.raises(ConfigError, match="lead_steps must be >= 1, got 0"):
        RemineConfig(lead_steps=0)
    without = replace(mined, ranked_rows=mined.ranked_rows[:, :0])
    with pytest.raises(ConfigError, match="mine with keep_ranked"):
        DynamicNegatives(without, folder=tmp_path)
    with pytest.raises(ConfigError, match=r"must give 2 negatives a pair.*num_negatives=7"):
        RemineNegatives(mined, None, MiningRules(), tmp_path)
    with pytest.raises(ConfigError, match="needs the corpus of the mining before training"):
        RemineNegatives(replace(mined), list_of_one(), RULES, tmp_path)
    with pytest.raises(ConfigError, match="made after step 5 cannot be valid from batch 5"):
        write_side_file(tmp_path, made=5, valid_from=5, fingerprint="x")


def list_of_one() -> list[Any]:
    from opengte.records import Document

    return [Document(id="0", text="another corpus")]
