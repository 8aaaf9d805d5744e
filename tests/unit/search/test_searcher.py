from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from opengte.errors import ConfigError, DataError, SearchIndexError
from opengte.records import Document
from opengte.runtime.hashed import HashEncoder
from opengte.search.documents import DocumentFile, write_documents
from opengte.search.embedding_shards import embed_to_shards, open_shard
from opengte.search.searcher import Searcher

TEXTS = {
    "cats": "The cat sat on the mat and purred",
    "dogs": "Dogs chase cats in the garden",
    "sql": "SELECT name FROM users WHERE id = 1",
    "zh": "检索模型的研究",
    "tea": "How to brew green tea",
}
DOCUMENTS = [
    Document(id=name, text=text, title=name.upper(), group="g", origin=f"docs.jsonl:{line}")
    for line, (name, text) in enumerate(TEXTS.items(), start=1)
]


class CountingEncoder(HashEncoder):
    """Counts the texts it embeds; dies after ``survives`` of them."""

    def __init__(self, *args, survives=10**9, **settings):
        super().__init__(*args, **settings)
        self.num_texts = 0
        self.survives = survives

    def encode(self, texts, **options):
        if self.num_texts + len(texts) > self.survives:
            raise KeyboardInterrupt
        self.num_texts += len(texts)
        return super().encode(texts, **options)


@pytest.fixture
def encoder():
    return HashEncoder(64)


@pytest.mark.parametrize("mode", ["dense", "bm25", "hybrid"])
def test_finds_the_document_with_its_text(tmp_path, encoder, mode):
    Searcher.build(iter(DOCUMENTS), tmp_path / "index", encoder=encoder)
    searcher = Searcher.open(tmp_path / "index", encoder=encoder, mode=mode)
    first = searcher.search(["brew green tea", "检索模型"], k=2)
    assert [hits[0].document for hits in first] == [DOCUMENTS[4], DOCUMENTS[3]]
    assert [hit.rank for hit in first[0]] == list(range(1, len(first[0]) + 1))
    assert len(searcher) == 5


def test_dense_search_equals_a_plain_product(tmp_path, encoder):
    searcher = Searcher.build(
        DOCUMENTS, tmp_path / "index", encoder=encoder, mode="dense", rows_per_shard=2
    )
    corpus = encoder.encode([d.full_text for d in DOCUMENTS], kind="document")
    query = encoder.encode(["cats in the garden"], kind="query")[0]
    expected = sorted(TEXTS, key=lambda name: -float(corpus[list(TEXTS).index(name)] @ query))
    assert [hit.id for hit in searcher.search(["cats in the garden"], k=5)[0]] == expected


def test_words_alone_need_no_encoder(tmp_path):
    searcher = Searcher.build(DOCUMENTS, tmp_path / "index", tokenizer="code")
    assert searcher.mode == "bm25"
    assert searcher.search(["users"], k=3)[0][0].id == "sql"
    assert Searcher.open(tmp_path / "index").search([], k=3) == []


def test_titles_are_searched_with_the_text(tmp_path):
    searcher = Searcher.build(DOCUMENTS, tmp_path / "index")
    assert searcher.search(["sql"], k=1)[0][0].id == "sql"


def test_killed_build_goes_on_and_ends_alike(tmp_path, encoder):
    whole = Searcher.build(DOCUMENTS, tmp_path / "whole", encoder=encoder, rows_per_shard=1)
    mortal = CountingEncoder(64, survives=3)
    with pytest.raises(KeyboardInterrupt):
        Searcher.build(DOCUMENTS, tmp_path / "index", encoder=mortal, rows_per_shard=1)
    assert not (tmp_path / "index").exists()
    second = CountingEncoder(64)
    again = Searcher.build(DOCUMENTS, tmp_path / "index", encoder=second, rows_per_shard=1)
    assert second.num_texts == 2
    assert again.search(["cat"], k=5) == whole.search(["cat"], k=5)
    manifests = [
        json.loads((tmp_path / name / "manifest.json").read_text()) for name in ("whole", "index")
    ]
    assert manifests[0] == manifests[1]
    assert not (tmp_path / ".index.building").exists()


def test_cut_dimensions_are_kept_for_queries(tmp_path):
    encoder = HashEncoder(64, matryoshka_dimensions=(16,))
    Searcher.build(DOCUMENTS, tmp_path / "index", encoder=encoder, dimensions=16)
    searcher = Searcher.open(tmp_path / "index", encoder=encoder, mode="dense")
    assert open_shard(tmp_path / "index" / "vectors-00000.npy").shape == (5, 16)
    assert searcher.search(["brew green tea"], k=1)[0][0].id == "tea"


def test_another_space_is_refused_with_what_differs(tmp_path, encoder):
    Searcher.build(DOCUMENTS, tmp_path / "index", encoder=encoder)
    other = HashEncoder(64, query_prompt="query: ")
    with pytest.raises(
        SearchIndexError, match=r"cannot answer .*query_prompt '' against 'query: '"
    ):
        Searcher.open(tmp_path / "index", encoder=other)


def test_progress_tells_done_and_total(tmp_path, encoder):
    told = []
    Searcher.build(
        iter(DOCUMENTS),
        tmp_path / "index",
        encoder=encoder,
        rows_per_shard=2,
        progress=lambda done, total: told.append((done, total)),
    )
    assert told == [(2, 5), (4, 5), (5, 5)]


@pytest.mark.parametrize(
    "name",
    [
        "vectors-00000.npy",
        "documents.jsonl",
        "documents.starts.npy",
        "bm25/weights.npy",
        "bm25/words.json",
    ],
)
@pytest.mark.parametrize("damage", ["flip", "cut", "remove"])
def test_damaged_file_is_refused_by_name(tmp_path, encoder, name, damage):
    Searcher.build(DOCUMENTS, tmp_path / "index", encoder=encoder)
    file = tmp_path / "index" / name
    content = bytearray(file.read_bytes())
    if damage == "flip":
        content[-1] ^= 1
        file.write_bytes(content)
    elif damage == "cut":
        file.write_bytes(content[:-1])
    else:
        file.unlink()
    with pytest.raises(SearchIndexError, match=rf"{name}: this file .*build again"):
        Searcher.open(tmp_path / "index", encoder=encoder)


def test_file_that_the_manifest_does_not_list_is_refused(tmp_path, encoder):
    Searcher.build(DOCUMENTS, tmp_path / "index", encoder=encoder)
    shutil.copy(tmp_path / "index/vectors-00000.npy", tmp_path / "index/vectors-00001.npy")
    with pytest.raises(SearchIndexError, match=r"does not list: 'vectors-00001.npy'"):
        Searcher.open(tmp_path / "index", encoder=encoder)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"format": "other"}, "not a manifest of an opengte-index"),
        ({"version": 2}, "format version 2 is not 1"),
        ({"space": {"model": "x"}}, "describes no embedding space"),
        ({"num_documents": 4}, r"different numbers of documents \[4, 5\]"),
        ({"files": {"../x": {"bytes": 1, "sha256": ""}}}, "names '../x' outside the index"),
    ],
)
def test_manifest_that_does_not_fit_is_refused(tmp_path, encoder, change, text):
    Searcher.build(DOCUMENTS, tmp_path / "index", encoder=encoder)
    path = tmp_path / "index" / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(SearchIndexError, match=text):
        Searcher.open(tmp_path / "index")


def test_folder_without_an_index_is_refused(tmp_path):
    with pytest.raises(SearchIndexError, match=r"holds no index .*gte index"):
        Searcher.open(tmp_path)


def test_empty_corpus_is_refused(tmp_path, encoder):
    with pytest.raises(DataError, match="no documents to index"):
        Searcher.build(iter([]), tmp_path / "index", encoder=encoder)
    assert not (tmp_path / "index").exists()


def test_two_documents_with_one_id_are_refused_with_their_place(tmp_path):
    with pytest.raises(DataError, match=r"the id 'cats' \(at docs.jsonl:1\); ids must differ"):
        Searcher.build([*DOCUMENTS, DOCUMENTS[0]], tmp_path / "index")


def test_modes_that_the_index_cannot_do_are_refused(tmp_path, encoder):
    words = Searcher.build(DOCUMENTS, tmp_path / "words")
    with pytest.raises(SearchIndexError, match=r"dense search .* built without vectors"):
        words.search(["cat"], mode="dense")
    dense = Searcher.build(DOCUMENTS, tmp_path / "dense", encoder=encoder, mode="dense")
    with pytest.raises(SearchIndexError, match=r"hybrid search .* built without BM25"):
        dense.search(["cat"], mode="hybrid")
    with pytest.raises(SearchIndexError, match="dense search cannot be done: the index needs an e"):
        Searcher.open(tmp_path / "dense", mode="dense")
    with pytest.raises(ConfigError, match="unknown search mode 'both'"):
        words.search(["cat"], mode="both")
    with pytest.raises(ConfigError, match="a dense index needs an encoder"):
        Searcher.build(DOCUMENTS, tmp_path / "none", mode="dense")


def test_documents_round_trip_in_any_script(tmp_path):
    odd = [Document("a\n", "line\u2028break 漢\x00"), Document("b", "", kind="k", group="g")]
    stored = write_documents(odd, tmp_path)
    assert list(stored) == odd
    assert list(DocumentFile(tmp_path)) == odd


def test_shards_of_another_model_or_side_are_not_reused(tmp_path):
    first, second = CountingEncoder(8), CountingEncoder(8, document_prompt="passage: ")
    paths = embed_to_shards(first, ["a", "b", "c"], tmp_path, rows_per_shard=2)
    assert embed_to_shards(first, ["a", "b", "c"], tmp_path, rows_per_shard=2) == paths
    assert first.num_texts == 3
    other = embed_to_shards(second, ["a", "b", "c"], tmp_path, rows_per_shard=2)
    asked = embed_to_shards(first, ["a", "b", "c"], tmp_path, rows_per_shard=2, kind="query")
    assert not set(paths) & set(other)
    assert not set(paths) & set(asked)
    grown = embed_to_shards(first, ["a", "b", "c", "d"], tmp_path, rows_per_shard=2)
    assert grown[0] == paths[0]
    assert first.num_texts == 3 + 3 + 2


class BrokenEncoder(HashEncoder):
    def __init__(self, answer):
        super().__init__(8)
        self.answer = answer

    def encode(self, texts, **options):
        return self.answer


def test_vectors_that_cannot_be_right_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"vectors of shape \(1, 8\), expected \(2, 8\)"):
        embed_to_shards(BrokenEncoder(np.ones((1, 8), np.float32)), ["a", "b"], tmp_path)
    bad = np.ones((2, 8), np.float32)
    bad[1, 3] = np.inf
    with pytest.raises(DataError, match="not finite, for text 1 of a shard"):
        embed_to_shards(BrokenEncoder(bad), ["a", "b"], tmp_path)


def test_damaged_shard_is_refused_by_name(tmp_path):
    (tmp_path / "shard.npy").write_bytes(b"nonsense")
    with pytest.raises(SearchIndexError, match=r"shard.npy: these vectors cannot be read"):
        open_shard(tmp_path / "shard.npy")
    np.save(tmp_path / "shard.npy", np.arange(3))
    with pytest.raises(SearchIndexError, match="expected a matrix of float32 or float16"):
        open_shard(tmp_path / "shard.npy")
