from __future__ import annotations

import builtins

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opengte.errors import ConfigError, MissingExtraError
from opengte.search.bm25 import BM25Index
from opengte.search.word_tokens import make_tokenizer, split_code, split_words

SENTENCE = "中国科学院的研究人员开发了新的检索模型"


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("getHTTPResponse", ["gethttpresponse", "get", "http", "response"]),
        ("read_csv_file", ["read_csv_file", "read", "csv", "file"]),
        ("utf8Decoder", ["utf8decoder", "utf", "8", "decoder"]),
        ("__init__(self)", ["init", "self"]),
        ("HTTP x plain", ["http", "x", "plain"]),
        ("np.float32", ["np", "float32", "float", "32"]),
        ("École_élève", ["école_élève", "école", "élève"]),
        ("___ !?", []),
    ],
)
def test_code_keeps_identifiers_and_splits_them(text, tokens):
    assert split_code(text) == tokens


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("The ﬁle’s size", ["the", "file", "s", "size"]),
        ("snake_case", ["snake", "case"]),
        ("हिन्दी भाषा", ["हिन्दी", "भाषा"]),
        ("検索", ["検索"]),
        ("検索エンジン", ["検索", "索エ", "エン", "ンジ", "ジン"]),
        ("GPU版本2", ["gpu", "版本", "2"]),
        ("猫", ["猫"]),
    ],
)
def test_words_are_normalised_and_unspaced_scripts_become_bigrams(text, tokens):
    assert split_words(text) == tokens


@pytest.mark.parametrize("name", ["words", "words:english", "code", "chinese"])
def test_chinese_sentence_is_never_one_token(name):
    tokens = make_tokenizer(name)(SENTENCE)
    assert len(tokens) > 4
    assert max(map(len, tokens)) <= 5


@pytest.mark.parametrize("name", ["words", "code", "chinese"])
def test_part_of_a_chinese_sentence_finds_it(name):
    index = BM25Index.build(["今天天气很好", SENTENCE, "股票市场"], tokenizer=name)
    assert index.search(["检索模型"], 1)[0][0].id == "1"


def test_thai_is_not_one_token():
    assert len(split_words("การค้นหาข้อมูล")) > 3


def test_query_in_words_finds_an_identifier_and_the_identifier_finds_itself_first():
    texts = ["def parse_http_header(x)", "def parseHttpHeader(x)", "http"]
    index = BM25Index.build(texts, tokenizer="code")
    assert {hit.id for hit in index.search(["parse http header"], 3)[0][:2]} == {"0", "1"}
    assert index.search(["parseHttpHeader"], 1)[0][0].id == "1"


def test_stemming_is_asked_for_by_name():
    assert make_tokenizer("words:english")("Running cats") == ["run", "cat"]
    assert make_tokenizer("words")("Running cats") == ["running", "cats"]


@given(st.text(max_size=40))
def test_any_text_gives_clean_tokens(text):
    for name in ("words", "code"):
        for token in make_tokenizer(name)(text):
            assert token
            assert not any(character.isspace() for character in token)


@pytest.mark.parametrize("name", ["word", "words:", "code:english", "", "chinese:zh"])
def test_unknown_tokenizer_is_refused_with_the_known_ones(name):
    with pytest.raises(ConfigError, match=r"unknown BM25 tokenizer .* 'code' or 'chinese'"):
        make_tokenizer(name)


def test_unknown_stemming_language_is_refused_with_the_known_ones():
    with pytest.raises(
        ConfigError, match=r"no Snowball stemmer for 'klingon'; there are: .*english"
    ):
        make_tokenizer("words:klingon")


@pytest.mark.parametrize(
    ("name", "package", "text"),
    [
        ("chinese", "jieba", r'jieba is not installed; pip install "opengte\[zh\]"'),
        ("words:english", "Stemmer", r'PyStemmer is not installed; pip install "opengte\[stem\]"'),
    ],
)
def test_missing_package_names_its_extra(monkeypatch, name, package, text):
    real = builtins.__import__

    def refuse(wanted, *rest, **more):
        if wanted == package:
            raise ImportError(wanted)
        return real(wanted, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(MissingExtraError, match=text):
        make_tokenizer(name)
