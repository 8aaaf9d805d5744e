"""One pair and its ranked candidates -> the hard negatives among them, and why others are not.

Axes: K candidates of one pair, best first. Every rule is a small pure function from a ``View``
to K booleans, True = this candidate must not be a negative. Rules are applied in the order of
``IDENTITY_RULES`` and then ``RULES``; a candidate is charged to the first one that refuses it,
so that the shares of a report add up to one.

Sources: TopK-PercPos and TopK-MarginPos, NV-Retriever (arXiv:2407.15831), used by NV-Embed
(arXiv:2405.17428); answer containment, DPR (arXiv:2004.04906); rank windows with random draws,
BGE (arXiv:2309.07597).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from opengte.errors import ConfigError
from opengte.mining.corpus import MiningCorpus
from opengte.records import Pair
from opengte.text.text_keys import contains_run, jaccard, text_key

Mask = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class MiningRules:
    """Which candidates may become hard negatives, and how many are taken.

    Attributes:
        num_negatives: taken for a pair; fewer where fewer are found (NV-Embed 7, GTE up to 15).
        first_rank, last_rank: the window of ranks, counted from 1 after the known positives
            and copies of the query have left the list (BGE's scripts: 2 to 200).
        sampling: ``top`` takes the best of the window, ``random`` draws from it.
        top_k: ``random`` draws among so many best survivors; None = all of them.
        perc_pos: TopK-PercPos: a candidate stays below this share of the positive's score
            (NV-Embed 0.95). For a negative score p the border is p - (1 - share) |p|. None = off.
        absolute_margin: a candidate stays this far below the positive's score, in units of the
            teacher's score (NV-Retriever's TopK-MarginPos 0.05). None = off.
        max_score, min_score: bounds on the candidate's own score (NV-Retriever's TopK-Abs
            max 0.7). None = off.
        exclude_answers: leave out candidates that contain the whole positive, word for word.
        exclude_same_source: leave out candidates from the source file of the pair or positive.
        exclude_same_group: leave out candidates of the group of the pair or positive.
        near_duplicate: leave out candidates whose word 3-shingles overlap with a known
            positive's by at least this Jaccard similarity, in (0, 1]. None = off.
        seed: of the random draws.
    """

    num_negatives: int = 7
    first_rank: int = 1
    last_rank: int = 100
    sampling: Literal["top", "random"] = "top"
    top_k: int | None = None
    perc_pos: float | None = 0.95
    absolute_margin: float | None = None
    max_score: float | None = None
    min_score: float | None = None
    exclude_answers: bool = True
    exclude_same_source: bool = False
    exclude_same_group: bool = False
    near_duplicate: float | None = 0.8
    seed: int = 0

    def __post_init__(self) -> None:
        if self.num_negatives < 1:
            raise ConfigError(f"num_negatives must be >= 1, got {self.num_negatives}")
        if not 1 <= self.first_rank <= self.last_rank:
            raise ConfigError(
                "the rank window must satisfy 1 <= first_rank <= last_rank, got "
                f"{self.first_rank} to {self.last_rank}"
            )
        window = self.last_rank - self.first_rank + 1
        if self.num_negatives > window:
            raise ConfigError(
                f"num_negatives is {self.num_negatives} but the rank window holds only {window}; "
                "raise last_rank or lower num_negatives"
            )
        self._check_top_k()
        self._check_scores()

    def _check_top_k(self) -> None:
        if self.top_k is None:
            return
        if self.sampling == "top":
            raise ConfigError("top_k bounds random draws; with sampling: top it does nothing")
        if self.top_k < self.num_negatives:
            raise ConfigError(
                f"top_k must be >= num_negatives ({self.num_negatives}), got {self.top_k}"
            )

    def _check_scores(self) -> None:
        if self.perc_pos is not None and not 0 < self.perc_pos <= 1:
            raise ConfigError(f"perc_pos must be in (0, 1], got {self.perc_pos}")
        if self.near_duplicate is not None and not 0 < self.near_duplicate <= 1:
            raise ConfigError(f"near_duplicate must be in (0, 1], got {self.near_duplicate}")
        low, high = self.min_score, self.max_score
        if low is not None and high is not None and low >= high:
            raise ConfigError(f"min_score must be below max_score, got {low} and {high}")


@dataclass(frozen=True, slots=True)
class View:
    """A pair and its candidates, as rules see them.

    Attributes:
        pair: whose negatives are looked for.
        corpus: what the rows mean.
        positive_score: the teacher's score of the pair's own positive.
        known_positives: keys of every text known to answer this query.
        rows: int64, (K,): rows of the corpus, best first.
        scores: float32, (K,): the teacher's scores, never rising.
        ranks: int64, (K,): from 1; 0 throughout until the identity rules have been applied.
    """

    pair: Pair
    corpus: MiningCorpus
    positive_score: float
    known_positives: NDArray[np.int64]
    rows: NDArray[np.int64]
    scores: NDArray[np.float32]
    ranks: NDArray[np.int64]

    def keep(self, mask: Mask) -> View:
        """The candidates where ``mask`` is True."""
        return replace(self, rows=self.rows[mask], scores=self.scores[mask], ranks=self.ranks[mask])


Rule = Callable[[View, MiningRules], Mask]


def known_positive(view: View, rules: MiningRules) -> Mask:
    """Texts that some pair names as an answer to this very query, and unselectable rows."""
    corpus = view.corpus
    return (
        np.isin(corpus.keys[view.rows], view.known_positives)
        | np.isin(corpus.bare_keys[view.rows], view.known_positives)
        | (view.rows >= corpus.num_documents)
    )


def copy_of_query(view: View, rules: MiningRules) -> Mask:
    """The query itself, where queries stand in the corpus too."""
    key = text_key(view.pair.query)
    return (view.corpus.keys[view.rows] == key) | (view.corpus.bare_keys[view.rows] == key)


def rank_window(view: View, rules: MiningRules) -> Mask:
    """Candidates ranked before ``first_rank`` (likely unlabelled answers) or after the last."""
    return (view.ranks < rules.first_rank) | (view.ranks > rules.last_rank)


def same_source(view: View, rules: MiningRules) -> Mask:
    """Candidates from the file or page that the pair came from."""
    return np.isin(view.corpus.sources[view.rows], list(view.corpus.sources_of(view.pair)))


def same_group(view: View, rules: MiningRules) -> Mask:
    """Candidates from the pair's group (a package, a folder)."""
    return np.isin(view.corpus.groups[view.rows], list(view.corpus.groups_of(view.pair)))


def max_score(view: View, rules: MiningRules) -> Mask:
    """Candidates above ``max_score`` (TopK-Abs)."""
    assert rules.max_score is not None
    return view.scores > rules.max_score


def min_score(view: View, rules: MiningRules) -> Mask:
    """Candidates below ``min_score``: too easy to teach anything."""
    assert rules.min_score is not None
    return view.scores < rules.min_score


def absolute_margin(view: View, rules: MiningRules) -> Mask:
    """Candidates nearer than the margin to the positive's score (TopK-MarginPos)."""
    assert rules.absolute_margin is not None
    return view.scores > view.positive_score - rules.absolute_margin


def perc_pos(view: View, rules: MiningRules) -> Mask:
    """Candidates above a share of the positive's score (TopK-PercPos)."""
    assert rules.perc_pos is not None
    return view.scores > view.positive_score - (1 - rules.perc_pos) * abs(view.positive_score)


def answer(view: View, rules: MiningRules) -> Mask:
    """Candidates that contain the whole positive, word for word."""
    row = view.corpus.rows_of(view.pair.positive)[0]
    run = view.corpus.words(row)
    return _each(view, lambda candidate: contains_run(view.corpus.words(candidate), run))


def near_duplicate(view: View, rules: MiningRules) -> Mask:
    """Candidates that are nearly a known positive."""
    assert rules.near_duplicate is not None
    border = rules.near_duplicate
    corpus = view.corpus
    positives = [corpus.shingles(row) for row in corpus.rows_of(view.pair.positive)[:1]]
    positives += [corpus.shingles(row) for row in _other_positive_rows(view)]

    def is_near(candidate: int) -> bool:
        own = corpus.shingles(candidate)
        for positive in positives:
            # Jaccard is at most the ratio of the sizes: most candidates end here.
            small, large = sorted((len(own), len(positive)))
            if small >= border * large and jaccard(own, positive) >= border:
                return True
        return False

    return _each(view, is_near)


IDENTITY_RULES: dict[str, Rule] = {
    "known_positive": known_positive,
    "copy_of_query": copy_of_query,
}
"""Always on; ranks are counted in what they leave."""

RULES: dict[str, Rule] = {
    "rank_window": rank_window,
    "same_source": same_source,
    "same_group": same_group,
    "max_score": max_score,
    "min_score": min_score,
    "absolute_margin": absolute_margin,
    "perc_pos": perc_pos,
    "answer": answer,
    "near_duplicate": near_duplicate,
}
"""In the order they are applied: the ones that read texts come last, for they cost most."""


def active_rules(rules: MiningRules) -> list[str]:
    """Names of the rules that are switched on, in the order of their application."""
    switches = {
        "rank_window": True,
        "same_source": rules.exclude_same_source,
        "same_group": rules.exclude_same_group,
        "max_score": rules.max_score is not None,
        "min_score": rules.min_score is not None,
        "absolute_margin": rules.absolute_margin is not None,
        "perc_pos": rules.perc_pos is not None,
        "answer": rules.exclude_answers,
        "near_duplicate": rules.near_duplicate is not None,
    }
    return [*IDENTITY_RULES, *(name for name in RULES if switches[name])]


def apply_rules(view: View, rules: MiningRules) -> tuple[View, dict[str, View]]:
    """Split the candidates into survivors and, for each rule, those it refused.

    Returns:
        The survivors with their ranks, and what each active rule was charged with.
    """
    refused: dict[str, View] = {}
    for name in IDENTITY_RULES:
        view, refused[name] = _split(view, IDENTITY_RULES[name](view, rules))
    view = replace(view, ranks=np.arange(1, len(view.rows) + 1, dtype=np.int64))
    for name in active_rules(rules)[len(IDENTITY_RULES) :]:
        view, refused[name] = _split(view, RULES[name](view, rules))
    return view, refused


def distinct_texts(view: View) -> View:
    """Of several rows with one text the best: a text teaches nothing twice."""
    _, first = np.unique(view.corpus.keys[view.rows], return_index=True)
    mask = np.zeros(len(view.rows), dtype=bool)
    mask[first] = True
    return view.keep(mask)


def draw(view: View, rules: MiningRules) -> View:
    """Take ``num_negatives`` of the survivors, best first; all of them where there are fewer.

    Random draws depend on the seed and the pair's own texts alone, not on the order of pairs.
    """
    view = distinct_texts(view)
    if rules.sampling == "top" or len(view.rows) <= rules.num_negatives:
        return view.keep(np.arange(len(view.rows)) < rules.num_negatives)
    pool = len(view.rows) if rules.top_k is None else min(rules.top_k, len(view.rows))
    chosen = np.zeros(len(view.rows), dtype=bool)
    chosen[_generator(view.pair, rules.seed).permutation(pool)[: rules.num_negatives]] = True
    return view.keep(chosen)


def _split(view: View, skip: Mask) -> tuple[View, View]:
    return view.keep(~skip), view.keep(skip)


def _each(view: View, predicate: Callable[[int], bool]) -> Mask:
    return np.fromiter(map(predicate, view.rows.tolist()), dtype=bool, count=len(view.rows))


def _other_positive_rows(view: View) -> Iterator[int]:
    own = text_key(view.pair.positive)
    for key in view.known_positives.tolist():
        if key != own:
            yield from view.corpus.rows_of_key(key)[:1]


def _generator(pair: Pair, seed: int) -> np.random.Generator:
    content = f"{seed}\0{pair.query}\0{pair.positive}".encode("utf-8", "surrogatepass")
    return np.random.default_rng(
        int.from_bytes(hashlib.blake2b(content, digest_size=16).digest(), "little")
    )
