"""How a corpus is cut: whole groups held out, nothing known twice, answers counted fairly."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opengte.errors import DataError
from opengte.pipeline.corpus.collect import package_of, regroup
from opengte.pipeline.corpus.held_out import build_held_out, split_terms
from opengte.pipeline.corpus.names import mask_name, mask_share
from opengte.pipeline.corpus.questions import Question, searches_of_questions
from opengte.pipeline.corpus.split import hold_out, row_components
from opengte.pipeline.measure import HeldOutSet
from opengte.records import Document, Pair

WORDS = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa"]


def sentence(seed: int, size: int = 12) -> str:
    rng = np.random.default_rng(seed)
    return " ".join(f"{WORDS[i]}{rng.integers(1000)}" for i in rng.integers(len(WORDS), size=size))


def pairs_of(groups: list[int]) -> list[Pair]:
    return [
        Pair(
            sentence(2 * i), f"def f{i}(x):\n    {sentence(2 * i + 1)}", group=f"g{group}",
            kind="docstring-code", origin=f"g{group}/m.py:{i}",
        )
        for i, group in enumerate(groups)
    ]  # fmt: skip


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 11), min_size=60, max_size=90), st.booleans(), st.integers(0, 5))
def test_no_group_and_no_component_stands_in_two_parts(
    groups: list[int], embedded: bool, seed: int
) -> None:
    pairs = pairs_of(groups)
    # Some rows copy the answer of another row.
    for i in range(0, len(pairs), 9):
        pairs[i] = replace(pairs[i], positive=pairs[i - 5].positive)
    components = row_components(pairs, threshold=0.7)
    if len(set(groups)) < 4:
        return
    askable = [True] * len(pairs)
    split = hold_out(
        pairs, components, askable, num_test=12, num_dev=6, embedded=embedded, seed=seed
    )
    parts = {"train": split.train, "dev": split.dev, "test": split.test}
    for facts in ([pair.group for pair in pairs], components.tolist()):
        seen = [{facts[i] for i in rows.tolist()} for rows in parts.values()]
        assert not seen[0] & seen[1]
        assert not seen[0] & seen[2]
        assert not seen[1] & seen[2]


def test_functions_that_differ_by_their_name_alone_are_linked() -> None:
    pairs = pairs_of([0, 1])
    body = " ".join(f"word{n}" for n in range(12))
    named = [replace(p, positive=f"def {n}(x):\n  {n} {body} {n} {n} {n}")
             for p, n in zip(pairs, ("alpha", "beta"), strict=True)]  # fmt: skip
    names = {pair.origin: name for pair, name in zip(named, ("alpha", "beta"), strict=True)}
    assert len(set(row_components(named, threshold=0.7).tolist())) == 2
    assert len(set(row_components(named, names, threshold=0.7).tolist())) == 1


def test_a_share_of_the_names_is_masked_and_the_rest_stays() -> None:
    pairs = pairs_of([0] * 400)
    names = {pair.origin: f"f{n}" for n, pair in enumerate(pairs)}
    masked = mask_share(pairs, names, 0.3, seed=1)
    changed = [new for new, old in zip(masked, pairs, strict=True) if new != old]
    assert 80 < len(changed) < 160
    assert all(pair.positive.startswith("def f(x)") for pair in changed)
    assert mask_share(pairs, names, 0.3, seed=1) == masked
    assert mask_share(pairs, names, 0.0, seed=1) == pairs
    assert mask_share(pairs, {}, 1.0, seed=1) == pairs


def test_rows_are_linked_by_either_side() -> None:
    pairs = pairs_of([0, 1, 2, 3])
    pairs[1] = replace(pairs[1], query=pairs[0].query)
    pairs[2] = replace(pairs[2], positive=pairs[1].positive)
    found = row_components(pairs, threshold=0.7).tolist()
    assert found[0] == found[1] == found[2] != found[3]


def built(pairs: list[Pair], distractors: list[Document], **options: int):  # type: ignore[no-untyped-def]
    return build_held_out(
        pairs,
        distractors,
        num_queries=options.get("num_queries", 50),
        num_documents=options.get("num_documents", 20),
        names={pair.origin: f"f{n}" for n, pair in enumerate(pairs)},
        seen_packages=frozenset({"g0"}),
        seed=0,
    )


def test_identical_queries_are_one_and_all_their_functions_count() -> None:
    pairs = pairs_of([0, 1, 2])
    pairs[2] = replace(pairs[2], query=pairs[0].query.upper() + " .")
    held_out = built(pairs, [])
    assert len(held_out.queries) == 2
    assert sorted(len(judged) for judged in held_out.qrels.values()) == [1, 2]


def test_a_near_duplicate_of_an_answer_is_no_distractor() -> None:
    pairs = pairs_of([0, 1])
    copy = Document("copy", pairs[0].positive + "\n", origin="x.py:1")
    other = Document("other", sentence(999, 30), origin="y.py:1")
    held_out = built(pairs, [copy, other])
    assert {document.id for document in held_out.documents} == {"d00000", "d00001", "other"}


def test_slices_know_names_and_seen_packages() -> None:
    pairs = pairs_of([0, 1, 2])
    held_out = built(pairs, [])
    assert len(held_out.slices["all"]) == len(held_out.slices["name_masked"]) == 3
    groups = {query.id: query.group for query in held_out.queries}
    assert {groups[query] for query in held_out.slices["unseen_package"]} == {"g1", "g2"}
    assert len(held_out.slices["low_overlap"]) == 1
    for text in held_out.masked.values():
        assert "def f(x)" in text


def test_a_held_out_set_reads_back_as_it_was_written(tmp_path) -> None:  # type: ignore[no-untyped-def]
    held_out = built(pairs_of([0, 1, 2]), [])
    held_out.write(tmp_path, "test")
    again = HeldOutSet.read(tmp_path, "test")
    assert {q.text for q in again.queries} == {q.text for q in held_out.queries}
    assert again.qrels == held_out.qrels
    assert dict(again.masked) == dict(held_out.masked)
    assert {k: tuple(v) for k, v in again.slices.items()} == dict(held_out.slices)


def test_masking_takes_whole_names_alone() -> None:
    assert mask_name("def run(x): return run(x) + rerun + run_all", "run") == (
        "def f(x): return f(x) + rerun + run_all"
    )


def test_names_fall_into_their_words() -> None:
    assert split_terms("parseHTTPHeader read_json_file") == [
        "parse", "http", "header", "read", "json", "file",
    ]  # fmt: skip


def test_a_repository_without_folders_holds_out_files_and_a_table_rows() -> None:
    flat = [
        Pair(f"q{i}", f"p{i}", group="repo", origin=f"repo/m{i % 10}.py:{i}") for i in range(40)
    ]
    assert len({pair.group for pair in regroup(flat)}) == 10
    table = [Pair(f"q{i}", f"p{i}", group="t", origin=f"t.jsonl:{i}") for i in range(40)]
    assert len({pair.group for pair in regroup(table)}) == 40


@pytest.mark.parametrize(
    ("group", "package"),
    [("scipy", "scipy"), ("python/json", "python"), ("repo/src/app", "repo/src"), ("", "")],
)
def test_the_package_of_a_group(group: str, package: str) -> None:
    assert package_of(group) == package


def test_questions_find_every_document_of_their_paths() -> None:
    documents = [
        Document(f"repo/{name}:{i}", f"text {i}", origin=f"repo/{name}:{i}")
        for i, name in enumerate(["src/a.py", "src/a.py", "src/b.py", "docs/c.md"])
    ]
    held_out = searches_of_questions([Question("how?", ("src",), 1)], documents, limit=10)
    assert len(held_out.qrels["q00000"]) == 3
    with pytest.raises(DataError, match=r"nothing was read from nowhere.py; paths are relative"):
        searches_of_questions([Question("how?", ("nowhere.py",), 1)], documents, limit=10)
