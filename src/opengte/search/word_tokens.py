"""A text -> the words that BM25 counts. Torch-free, deterministic, and never a whole sentence.

Three tokenizers, chosen by name:

* ``words``: NFKC, lower case, runs of letters, marks and digits. ``words:english`` (any Snowball
  language) also stems, and needs PyStemmer: what is indexed never depends on what happens to be
  installed.
* ``code``: identifiers whole *and* split at camelCase, snake_case and digits, so that a query
  in words finds ``getHTTPResponse`` and an identifier still finds itself first.
* ``chinese``: jieba's search mode (extra ``zh``), on documents and queries.

Scripts that are written without spaces (Han, kana, Thai, Lao, Khmer, Burmese) become overlapping
character bigrams in all of them, but where jieba segments Chinese.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Callable

from opengte.errors import ConfigError, MissingExtraError

Tokenize = Callable[[str], list[str]]

_UNSPACED = (
    "\u0e00-\u0eff"  # Thai, Lao
    "\u1000-\u109f\u1780-\u17ff"  # Burmese, Khmer
    "\u3005\u3007\u3041-\u3096\u309d-\u309f\u30a1-\u30ff\u31f0-\u31ff"  # kana, iteration marks
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"  # Han
    "\U00020000-\U0003fffd"  # Han, further planes
)
# One identifier part: HTTP before Response, Response, response, or a number.
_PARTS = re.compile(r"[^\W\d_A-Z]+|[A-Z]+(?![^\W\d_A-Z])|[A-Z][^\W\d_A-Z]+|\d+")


def make_tokenizer(name: str) -> Tokenize:
    """The function behind a tokenizer's name; the same name gives the same words everywhere.

    Raises:
        ConfigError: the name or its stemming language is unknown.
        MissingExtraError: jieba or PyStemmer is not installed.
    """
    kind, _, language = name.partition(":")
    if kind == "words" and (not language) == (":" not in name):
        return _stemmed(language) if language else split_words
    if name == "code":
        return split_code
    if name == "chinese":
        return _chinese()
    raise ConfigError(
        f"unknown BM25 tokenizer {name!r}; give 'words', 'words:LANGUAGE' (stemmed), 'code' "
        "or 'chinese'"
    )


def split_words(text: str) -> list[str]:
    """Lower-case words; unspaced scripts as bigrams."""
    return _with_bigrams(unicodedata.normalize("NFKC", text).lower())


def split_code(text: str) -> list[str]:
    """Every identifier whole and, where it has several parts, its parts; all in lower case."""
    tokens: list[str] = []
    for word in _word_pattern().findall(unicodedata.normalize("NFKC", text)):
        if _unspaced_pattern().search(word):
            tokens += _with_bigrams(word.lower())
            continue
        whole = word.lower().strip("_")
        parts = [part.lower() for part in _PARTS.findall(word)]
        tokens += [whole] if whole else []
        tokens += parts if len(parts) > 1 else []
    return tokens


def _with_bigrams(text: str) -> list[str]:
    tokens: list[str] = []
    for word in _word_pattern().findall(text):
        if not _unspaced_pattern().search(word):
            tokens += [part for part in word.split("_") if part]
            continue
        for run in _unspaced_pattern().split(word):
            tokens += _bigrams(run) if _unspaced_pattern().match(run) else run.split("_")
    return [token for token in tokens if token]


def _bigrams(run: str) -> list[str]:
    return [run[i : i + 2] for i in range(len(run) - 1)] or [run]


def _stemmed(language: str) -> Tokenize:
    try:
        import Stemmer
    except ImportError as error:
        raise MissingExtraError("PyStemmer", extra="stem") from error
    if language not in Stemmer.algorithms():
        known = ", ".join(Stemmer.algorithms())
        raise ConfigError(f"no Snowball stemmer for {language!r}; there are: {known}")
    stemmer = Stemmer.Stemmer(language)

    def tokenize(text: str) -> list[str]:
        stems: list[str] = stemmer.stemWords(split_words(text))
        return stems

    return tokenize


def _chinese() -> Tokenize:
    try:
        import warnings

        with warnings.catch_warnings():  # jieba 0.42 imports pkg_resources and has \. in strings
            warnings.simplefilter("ignore")
            import jieba
    except ImportError as error:
        raise MissingExtraError("jieba", extra="zh") from error
    jieba.setLogLevel("ERROR")

    def tokenize(text: str) -> list[str]:
        tokens: list[str] = []
        for word in jieba.lcut_for_search(unicodedata.normalize("NFKC", text).lower()):
            if not _word_pattern().search(word):
                continue
            # A run that jieba does not know comes back whole: three characters are a word at most.
            long_run = len(word) > 4 and _unspaced_pattern().fullmatch(word)
            tokens += _bigrams(word) if long_run else [word]
        return tokens

    return tokenize


@functools.cache
def _word_pattern() -> re.Pattern[str]:
    # \w leaves out combining marks, which would cut Hindi and Thai words into pieces.
    marks = "".join(chr(c) for c in range(0x300, 0x1E950) if unicodedata.category(chr(c))[0] == "M")
    return re.compile(rf"[\w{re.escape(marks)}]+")


@functools.cache
def _unspaced_pattern() -> re.Pattern[str]:
    return re.compile(rf"([{_UNSPACED}]+)")
