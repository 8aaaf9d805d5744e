"""Mining as a whole: equal to slow loops, resumable, bounded, reported."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from opengte.errors import DataError, SearchIndexError
from opengte.mining.corpus import corpus_of_pairs
from opengte.mining.mine import mine_negatives
from opengte.mining.rules import MiningRules
from opengte.mining.shards import EmbeddedTexts
from opengte.mining.teachers import EncoderTeacher, RerankingTeacher, WeightedTeacher
from opengte.records import Document, Embeddings, Pair
from opengte.runtime.hashed import HashEncoder

RULES = MiningRules(num_negatives=3, last_rank=10, perc_pos=0.95)


class SlowIndex:
    """The definition of an exact index."""

    def __init__(self, shards: Sequence[NDArray[np.float32]]) -> None:
        self.vectors = np.concatenate(shards)

    def search(
        self, vectors: NDArray[np.float32], k: int
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        scores = np.einsum("qd,nd->qn", vectors, self.vectors)
        rows = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        return np.take_along_axis(scores, rows, axis=1), rows.astype(np.int64)


class CountingEncoder(HashEncoder):
    """Counts the texts it embeds; dies when told to."""

    def __init__(self, dies_after: int | None = None) -> None:
        super().__init__(64)
        self.num_texts = 0
        self.dies_after = dies_after

    def embed(self, texts: Sequence[str], **settings: object) -> Embeddings:  # type: ignore[override]
        self.num_texts += len(texts)
        if self.dies_after is not None and self.num_texts > self.dies_after:
            raise ConnectionError("killed")
        return super().embed(texts, **settings)  # type: ignore[arg-type]

    def encode(self, texts: Sequence[str], **settings: object) -> NDArray[np.float32]:  # type: ignore[override]
        return self.embed(texts, **settings).vectors


def make_pairs(num_pairs: int, seed: int = 0) -> list[Pair]:
    rng = np.random.default_rng(seed)
    vocabulary = [f"word{i}" for i in range(40)]
    pairs = []
    for i in range(num_pairs):
        chosen = rng.choice(vocabulary, size=8)
        pairs.append(
            Pair(
                query=" ".join(chosen[:4]),
                positive=f"{' '.join(chosen[2:])} number {i}",
                group=f"g{i % 5}",
                origin=f"file{i % 7}.md:{i}",
            )
        )
    return pairs


def teacher_of(encoder: HashEncoder, shard_texts: int = 16) -> EncoderTeacher:
    return EncoderTeacher(encoder, shard_texts=shard_texts, index_factory=SlowIndex)


def folder_bytes(folder: Path) -> dict[str, bytes]:
    names = ("pairs.jsonl", "report.json", "mining.json")
    return {name: (folder / name).read_bytes() for name in names}


def test_equals_slow_loops(tmp_path: Path) -> None:
    pairs = make_pairs(60)
    encoder = HashEncoder(64)
    result = mine_negatives(pairs, None, teacher_of(encoder), RULES, folder=tmp_path, block_pairs=7)
    documents = encoder.encode([p.positive for p in pairs], kind="document")
    for number, (pair, mined) in enumerate(zip(pairs, result.pairs, strict=True)):
        scores = documents @ encoder.encode([pair.query], kind="query")[0]
        ranked = [r for r in np.argsort(-scores, kind="stable") if r != number][:10]
        allowed = [pairs[r].positive for r in ranked if scores[r] <= 0.95 * scores[number]]
        assert list(mined.negatives) == allowed[:3]
        assert mined.positive == pair.positive


def test_negative_scores_are_the_teachers(tmp_path: Path) -> None:
    pairs = make_pairs(30)
    encoder = HashEncoder(64)
    result = mine_negatives(pairs, None, teacher_of(encoder), RULES, folder=tmp_path)
    pair = next(pair for pair in result.pairs if pair.negatives)
    vectors = encoder.encode(list(pair.negatives), kind="document")
    expected = vectors @ encoder.encode([pair.query], kind="query")[0]
    np.testing.assert_allclose(pair.negative_scores, expected, atol=1e-6)


@pytest.mark.parametrize("dies_after", [0, 20, 60, 61, 90])
def test_killed_run_resumes_to_the_same_bytes(tmp_path: Path, dies_after: int) -> None:
    pairs = make_pairs(60)
    settings = {"block_pairs": 7, "keep_ranked": True}
    mine_negatives(
        pairs, None, teacher_of(CountingEncoder()), RULES, folder=tmp_path / "straight", **settings
    )
    with pytest.raises(ConnectionError):
        mine_negatives(
            pairs,
            None,
            teacher_of(CountingEncoder(dies_after)),
            RULES,
            folder=tmp_path / "killed",
            **settings,
        )
    encoder = CountingEncoder()
    mine_negatives(pairs, None, teacher_of(encoder), RULES, folder=tmp_path / "killed", **settings)
    assert folder_bytes(tmp_path / "killed") == folder_bytes(tmp_path / "straight")
    assert encoder.num_texts <= 120 - dies_after + 16, "what was done is not done again"


def test_corpus_is_embedded_once_for_several_runs(tmp_path: Path) -> None:
    pairs = make_pairs(40)
    first, second = CountingEncoder(), CountingEncoder()
    for encoder, seed in ((first, 0), (second, 1)):
        rules = MiningRules(num_negatives=2, sampling="random", seed=seed)
        folder = tmp_path / str(seed)
        cache = tmp_path / "cache"
        mine_negatives(pairs, None, teacher_of(encoder), rules, folder=folder, cache_folder=cache)
    assert first.num_texts == 80
    assert second.num_texts == 40, "queries alone"


def test_finished_run_embeds_nothing_again(tmp_path: Path) -> None:
    pairs = make_pairs(20)
    mine_negatives(pairs, None, teacher_of(CountingEncoder()), RULES, folder=tmp_path)
    encoder = CountingEncoder()
    again = mine_negatives(pairs, None, teacher_of(encoder), RULES, folder=tmp_path)
    assert encoder.num_texts == 0
    assert again.report.num_pairs == 20


def test_other_rules_do_not_reuse_blocks(tmp_path: Path) -> None:
    pairs = make_pairs(20)
    one = mine_negatives(pairs, None, teacher_of(HashEncoder(64)), RULES, folder=tmp_path)
    rules = replace(RULES, num_negatives=1)
    two = mine_negatives(pairs, None, teacher_of(HashEncoder(64)), rules, folder=tmp_path)
    assert max(len(pair.negatives) for pair in one.pairs) > 1
    assert max(len(pair.negatives) for pair in two.pairs) == 1
    assert len(list(tmp_path.glob("blocks-*"))) == 1


def test_block_and_shard_sizes_change_nothing(tmp_path: Path) -> None:
    pairs = make_pairs(50)
    rules = replace(RULES, sampling="random", top_k=6)
    outputs = []
    for i, (block, shard) in enumerate([(7, 16), (1000, 9), (1, 1000)]):
        result = mine_negatives(
            pairs,
            None,
            teacher_of(HashEncoder(64), shard),
            rules,
            folder=tmp_path / str(i),
            block_pairs=block,
        )
        outputs.append((tmp_path / str(i) / "report.json").read_bytes())
        outputs.append(result.path.read_bytes())
    assert outputs[:2] == outputs[2:4] == outputs[4:]


def test_short_lists_are_reported_and_never_padded(tmp_path: Path) -> None:
    pairs = make_pairs(4)
    result = mine_negatives(
        pairs,
        None,
        teacher_of(HashEncoder(64)),
        MiningRules(num_negatives=7, perc_pos=None, near_duplicate=None),
        folder=tmp_path,
    )
    assert [len(pair.negatives) for pair in result.pairs] == [3, 3, 3, 3]
    assert (result.report.num_full, result.report.num_short, result.report.num_empty) == (0, 4, 0)


def test_counts_of_the_report_add_up(tmp_path: Path) -> None:
    pairs = make_pairs(60)
    report = mine_negatives(
        pairs, None, teacher_of(HashEncoder(64)), RULES, folder=tmp_path, block_pairs=9
    ).report
    fates = [report.kept, report.not_drawn, *report.skipped.values()]
    assert sum(fate.count for fate in fates) == report.num_candidates
    assert sum(fate.share for fate in fates) == pytest.approx(1)
    assert report.kept.count == report.num_negatives
    assert report.num_full + report.num_short + report.num_empty == 60
    assert len(report.kept.examples) == 20
    assert report.positives.count == 60
    assert json.loads((tmp_path / "report.json").read_text())["num_pairs"] == 60
    assert any(line.startswith("perc_pos: ") for line in report.lines())


def test_all_answers_of_one_query_are_known(tmp_path: Path) -> None:
    answers = ["red apples taste sweet", "green apples taste sour"]
    pairs = [Pair(query="how do apples taste", positive=answer) for answer in answers]
    pairs.append(Pair(query="how do pears taste", positive="pears taste like apples"))
    rules = MiningRules(num_negatives=2, perc_pos=None)
    result = mine_negatives(pairs, None, teacher_of(HashEncoder(64)), rules, folder=tmp_path)
    assert [pair.negatives for pair in result.pairs[:2]] == [("pears taste like apples",)] * 2


def test_answers_of_pairs_that_are_not_mined_for_are_known(tmp_path: Path) -> None:
    answers = ["red apples taste sweet", "green apples taste sour", "apples taste well"]
    pairs = [Pair(query="how do apples taste", positive=answer) for answer in answers]
    corpus = corpus_of_pairs([*pairs, Pair(query="", positive="pears taste like apples")])
    elsewhere = Pair(query="how do apples taste", positive="an answer in no document")
    rules = MiningRules(num_negatives=3, perc_pos=None)
    teacher = teacher_of(HashEncoder(64))
    alone = mine_negatives(pairs[:1], corpus, teacher, rules, folder=tmp_path / "1")
    assert len(alone.pairs[0].negatives) == 3
    known = mine_negatives(
        pairs[:1],
        corpus,
        teacher,
        rules,
        folder=tmp_path / "2",
        known_pairs=[*pairs[1:], elsewhere],
    )
    assert known.pairs[0].negatives == ("pears taste like apples",)
    assert known.fingerprint != alone.fingerprint


def test_pairs_that_do_not_match_are_passed_on_and_teach_no_positive(tmp_path: Path) -> None:
    pairs = [
        Pair(query="q one", positive="right answer one"),
        Pair(query="q one", positive="wrong answer one", score=0.0),
    ]
    rules = MiningRules(num_negatives=1, perc_pos=None)
    result = mine_negatives(pairs, None, teacher_of(HashEncoder(64)), rules, folder=tmp_path)
    assert result.pairs[0].negatives == ("wrong answer one",)
    assert result.pairs[1] == pairs[1]
    assert result.report.num_not_matching == 1


def test_positives_outside_the_corpus_are_scored_and_never_chosen(tmp_path: Path) -> None:
    pairs = make_pairs(20)
    corpus = [Document(id=str(i), text=f"word{i} word{i + 1} lonely") for i in range(30)]
    rules = MiningRules(num_negatives=5, perc_pos=None)
    result = mine_negatives(pairs, corpus, teacher_of(HashEncoder(64)), rules, folder=tmp_path)
    texts = {document.text for document in corpus}
    for pair in result.pairs:
        assert len(pair.negatives) == 5
        assert set(pair.negatives) <= texts
    assert result.report.num_added_positives == 20
    assert result.report.positives.score_quantiles["0.50"] > 0


def test_given_negatives_stay_in_front(tmp_path: Path) -> None:
    pairs = [replace(pair, negatives=("given",)) for pair in make_pairs(20)]
    rules = MiningRules(num_negatives=2, perc_pos=None)
    result = mine_negatives(pairs, None, teacher_of(HashEncoder(64)), rules, folder=tmp_path)
    for pair in result.pairs:
        assert pair.negatives[0] == "given"
        assert len(pair.negatives) == 3
        assert pair.negative_scores == ()


def test_progress_counts_documents_and_pairs(tmp_path: Path) -> None:
    calls: list[tuple[int, int | None]] = []
    mine_negatives(
        make_pairs(20),
        None,
        teacher_of(HashEncoder(64), 8),
        RULES,
        folder=tmp_path,
        block_pairs=10,
        progress=lambda done, total: calls.append((done, total)),
    )
    assert calls == [(8, 40), (16, 40), (20, 40), (30, 40), (40, 40)]


def test_written_pairs_say_the_same(tmp_path: Path) -> None:
    result = mine_negatives(
        make_pairs(20), None, teacher_of(HashEncoder(64)), RULES, folder=tmp_path
    )
    rows = [json.loads(line) for line in result.path.read_text().splitlines()]
    for row, pair in zip(rows, result.pairs, strict=True):
        assert row["query"] == pair.query
        assert tuple(row.get("negatives", ())) == pair.negatives
        assert row["group"] == pair.group


def test_empty_corpus_and_no_pairs_are_clear_errors(tmp_path: Path) -> None:
    teacher = teacher_of(HashEncoder(64))
    with pytest.raises(DataError, match="the corpus to mine from holds no document"):
        mine_negatives(make_pairs(2), [], teacher, folder=tmp_path)
    with pytest.raises(DataError, match="there are no pairs to mine negatives for"):
        mine_negatives([], None, teacher, folder=tmp_path)


class OtherDimension(HashEncoder):
    def encode(self, texts: Sequence[str], **settings: object) -> NDArray[np.float32]:  # type: ignore[override]
        vectors = super().encode(texts, **settings)  # type: ignore[arg-type]
        return vectors[:, :32] if settings.get("kind") == "query" else vectors


class NotFinite(HashEncoder):
    def encode(self, texts: Sequence[str], **settings: object) -> NDArray[np.float32]:  # type: ignore[override]
        return super().encode(texts, **settings) * np.float32(np.nan)  # type: ignore[arg-type]


def test_teacher_of_another_dimension_is_a_clear_error(tmp_path: Path) -> None:
    message = r"shape \(2, 32\), expected \(2, 64\), for the queries"
    with pytest.raises(DataError, match=message):
        mine_negatives(make_pairs(2), None, teacher_of(OtherDimension(64)), folder=tmp_path)


def test_teacher_that_gives_nan_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"not finite, for text \d+ of shard 0"):
        mine_negatives(make_pairs(2), None, teacher_of(NotFinite(64)), folder=tmp_path)


def test_damaged_files_are_named(tmp_path: Path) -> None:
    pairs = make_pairs(20)
    mine_negatives(pairs, None, teacher_of(HashEncoder(64)), RULES, folder=tmp_path)
    block = next(tmp_path.glob("blocks-*/block-000000.npz"))
    block.write_bytes(block.read_bytes()[:100])
    with pytest.raises(DataError, match=r"block-000000.npz: .* cannot be read; remove it"):
        mine_negatives(pairs, None, teacher_of(HashEncoder(64)), RULES, folder=tmp_path)
    block.unlink()
    shard = next(tmp_path.glob("corpus/*/shard-00000.npy"))
    shard.write_bytes(b"junk")
    with pytest.raises(SearchIndexError, match=r"shard-00000.npy: .* cannot be read; remove it"):
        mine_negatives(pairs, None, teacher_of(HashEncoder(64)), RULES, folder=tmp_path)


def test_shards_search_and_score_as_one_matrix(tmp_path: Path) -> None:
    encoder = HashEncoder(32)
    texts = [pair.positive for pair in make_pairs(50)] + ["twin", "twin", "twin"]
    embedded = EmbeddedTexts(tmp_path, encoder, texts, shard_texts=8, index_factory=SlowIndex)
    embedded.build()
    whole = encoder.encode(texts, kind="document")
    queries = encoder.encode(["word1 word2", "twin"], kind="query")
    scores, rows = embedded.search(queries, 5)
    expected_scores, expected_rows = SlowIndex([whole]).search(queries, 5)
    np.testing.assert_array_equal(rows, expected_rows)
    np.testing.assert_allclose(scores, expected_scores, atol=1e-6)
    assert rows[1, :3].tolist() == [50, 51, 52], "ties by lower row"
    _, first_rows = embedded.search(queries, 60, num_rows=51)
    assert sorted(first_rows[1].tolist()) == list(range(51))
    given = [np.array([3, 52, 9]), np.array([], dtype=np.int64)]
    got = embedded.score(queries, given)
    np.testing.assert_allclose(got[0], whole[given[0]] @ queries[0], atol=1e-6)
    assert got[1].shape == (0,)
    np.testing.assert_array_equal(embedded.vectors(given[0]), whole[given[0]])


class LengthReranker:
    """Prefers long documents; scores are negative, as logits may be."""

    def score(self, query: str, documents: Sequence[str]) -> NDArray[np.float32]:
        return np.array([len(document) - 1000 for document in documents], dtype=np.float32)


def test_reranking_teacher_reorders_the_first_ones_best(tmp_path: Path) -> None:
    texts = [pair.positive for pair in make_pairs(30)]
    first = teacher_of(HashEncoder(64))
    teacher = RerankingTeacher(first, LengthReranker(), name="length", depth=6)
    ranking = teacher.open(texts, folder=tmp_path).rank(["word1 word2 word3"], 4)[0]
    best = first.open(texts, folder=tmp_path).rank(["word1 word2 word3"], 6)[0].rows
    expected = sorted(best.tolist(), key=lambda row: (-len(texts[row]), row))[:4]
    assert ranking.rows.tolist() == expected
    assert ranking.scores.tolist() == [len(texts[row]) - 1000 for row in expected]


def test_weighted_teacher_adds_scores_on_one_scale(tmp_path: Path) -> None:
    texts = [pair.positive for pair in make_pairs(30)]
    one, two = teacher_of(HashEncoder(64)), teacher_of(HashEncoder(96, seed=3))
    ranker = WeightedTeacher((one, two), (0.75, 0.25)).open(texts, folder=tmp_path)
    queries = ["word1 word2 word3", "word7 word9"]
    everything = np.arange(30, dtype=np.int64)
    parts = []
    for teacher in (one, two):
        scores = teacher.encoder.encode(queries) @ teacher.encoder.encode(texts).T
        parts.append(scores / scores.max(axis=1, keepdims=True))
    expected = 0.75 * parts[0] + 0.25 * parts[1]
    got = ranker.score(queries, [everything, everything])
    np.testing.assert_allclose(got, expected, atol=1e-5)
    ranking = ranker.rank(queries, 30)[1]
    np.testing.assert_array_equal(ranking.rows, np.lexsort((everything, -ranking_scores(ranking))))


def ranking_scores(ranking: object) -> NDArray[np.float32]:
    """Scores by row number."""
    scores = np.empty(len(ranking.rows), dtype=np.float32)  # type: ignore[attr-defined]
    scores[ranking.rows] = ranking.scores  # type: ignore[attr-defined]
    return scores
