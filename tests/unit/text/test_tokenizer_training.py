from __future__ import annotations

import pytest

from opengte.errors import ConfigError, DataError
from opengte.text.tokenizer import Tokenizer
from opengte.text.tokenizer_training import TokenizerConfig, train_tokenizer

CORPUS = [
    "the cat sat on the mat and the dog sat on the log",
    "a fast tokenizer splits words into pieces, and pieces into smaller pieces",
    "Unicode: naïve café, 東京 and 京都, plus emoji 🙂",
] * 20


@pytest.fixture(params=["wordpiece", "bpe", "unigram"])
def config(request):
    return TokenizerConfig(kind=request.param, vocab_size=400)


def test_a_trained_tokenizer_reads_what_it_learned_from(config):
    tokenizer = train_tokenizer(iter(CORPUS), config)
    unknown = tokenizer.token_id("unk_token")
    for text in CORPUS[:2]:
        (found,) = tokenizer.encode([text], max_tokens=200)
        assert unknown not in found.ids[1:-1]
        assert found.ids[0] == tokenizer.token_id("cls_token")
        assert found.ids[-1] == tokenizer.token_id("sep_token")
        words = tokenizer.backend.decode(found.ids.tolist())
        assert words.replace(" ", "") == text.replace(" ", "")
    assert tokenizer.vocab_size <= 400


def test_it_comes_back_from_its_folder_the_same(config, tmp_path):
    tokenizer = train_tokenizer(CORPUS, config)
    tokenizer.save(tmp_path)
    again = Tokenizer.from_folder(tmp_path)
    assert again.fingerprint == tokenizer.fingerprint
    assert again.pad_id == tokenizer.pad_id
    text = "the cat in the café"
    ids = [t.encode([text], max_tokens=50)[0].ids.tolist() for t in (tokenizer, again)]
    assert ids[0] == ids[1]


def test_transformers_reads_the_folder_with_the_same_ids(config, tmp_path):
    transformers = pytest.importorskip("transformers")
    tokenizer = train_tokenizer(CORPUS, config)
    tokenizer.save(tmp_path)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    for text in ("the dog sat", "東京 is a city", ""):
        ids = tokenizer.encode([text], max_tokens=50)[0].ids.tolist()
        assert theirs(text)["input_ids"] == ids
    pair = tokenizer.encode_pairs([("the cat", "a dog")], max_tokens=50)[0]
    assert theirs("the cat", "a dog")["input_ids"] == pair.ids.tolist()


@pytest.mark.parametrize("kind", ["wordpiece", "bpe"])
def test_training_is_repeatable(kind):
    config = TokenizerConfig(kind=kind, vocab_size=400)
    fingerprints = {train_tokenizer(CORPUS, config).fingerprint for _ in range(5)}
    assert len(fingerprints) == 1


def test_the_order_of_the_texts_does_not_change_a_wordpiece_vocabulary():
    config = TokenizerConfig(vocab_size=200)
    forward, backward = train_tokenizer(CORPUS, config), train_tokenizer(CORPUS[::-1], config)
    assert forward.fingerprint == backward.fingerprint


def test_a_wordpiece_vocabulary_stays_within_its_size_when_characters_alone_exceed_it():
    many = [chr(0x4E00 + i) * (1 + i % 3) for i in range(300)] * 3 + ["the cat"] * 500
    tokenizer = train_tokenizer(many, TokenizerConfig(vocab_size=60))
    assert tokenizer.vocab_size <= 60
    (found,) = tokenizer.encode(["the cat"], max_tokens=20)
    assert tokenizer.token_id("unk_token") not in found.ids


def test_characters_of_a_wordpiece_vocabulary_are_not_cut_out_of_words():
    tokenizer = train_tokenizer(CORPUS, TokenizerConfig(vocab_size=400))
    (found,) = tokenizer.encode(["tokenizer"], max_tokens=20)
    assert [tokenizer.backend.id_to_token(int(i)) for i in found.ids[1:-1]] == ["tokenizer"]


def test_case_is_kept_where_it_is_asked_for():
    cased = train_tokenizer(["Cat cat"] * 9, TokenizerConfig(vocab_size=50, lower_case=False))
    upper, lower = cased.encode(["Cat", "cat"], max_tokens=9)
    assert upper.ids.tolist() != lower.ids.tolist()


def test_byte_pairs_have_a_token_for_every_byte():
    tokenizer = train_tokenizer(CORPUS, TokenizerConfig(kind="bpe", vocab_size=300))
    (found,) = tokenizer.encode(["ЖЙ\x00ß"], max_tokens=99)
    assert tokenizer.token_id("unk_token") not in found.ids


@pytest.mark.parametrize("texts", [[], ["", " "]])
def test_nothing_to_learn_from_is_an_error(texts):
    with pytest.raises(DataError, match=f"needs text to learn from; got {len(texts)} texts"):
        train_tokenizer(texts, TokenizerConfig(vocab_size=50))


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"kind": "char"}, "kind must be wordpiece, bpe or unigram, got 'char'"),
        ({"kind": "bpe", "vocab_size": 200}, "vocab_size must be >= 300 for bpe, got 200"),
        ({"vocab_size": 5}, "vocab_size must be >= 10 for wordpiece, got 5"),
    ],
)
def test_settings_that_cannot_be_are_refused(values, match):
    with pytest.raises(ConfigError, match=match):
        TokenizerConfig(**values)
