from __future__ import annotations

import json

import numpy as np
import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import models, normalizers, pre_tokenizers, processors

from opengte.errors import ConfigError, ModelFolderError
from opengte.text import tokenizer as tokenizer_module
from opengte.text.tokenizer import Tokenizer
from opengte.text.truncation import shared_room

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "query", ":", "the", "cat", "sat", "on", "mat", "##s"]


def write_wordpiece(folder, *, config=None):
    """A BERT tokenizer of twelve tokens."""
    ids = {word: i for i, word in enumerate(WORDS)}
    backend = tokenizers.Tokenizer(models.WordPiece(ids, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer()
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.add_special_tokens(["[PAD]", "[UNK]", "[CLS]", "[SEP]"])
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    backend.save(str(folder / "tokenizer.json"))
    settings = (
        {"pad_token": "[PAD]", "eos_token": {"content": "[SEP]"}} if config is None else config
    )
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return Tokenizer.from_folder(write_wordpiece(tmp_path_factory.mktemp("tokenizer")))


def ids(tokenizer, text, **kwargs):
    return tokenizer.encode([text], **{"max_tokens": 512, **kwargs})[0].ids.tolist()


def test_special_tokens_stand_around_the_text(tiny):
    assert ids(tiny, "the cats") == [2, 6, 7, 11, 3]
    assert tiny.num_special_tokens == 2
    assert tiny.encode(["the"], max_tokens=9)[0].ids.dtype == np.int32


def test_equals_transformers_on_the_real_tokenizer(minilm_folder):
    transformers = pytest.importorskip("transformers")
    theirs = transformers.AutoTokenizer.from_pretrained(minilm_folder)
    ours = Tokenizer.from_folder(minilm_folder)
    texts = ["Hello, World!", "naïve café — 東京", "x" * 300, "", "def f(x): return x**2  # [SEP]"]
    for text in texts:
        expected = theirs(text, truncation=True, max_length=16)["input_ids"]
        assert ids(ours, text, max_tokens=16) == expected


def test_truncation_keeps_both_special_tokens(tiny):
    assert ids(tiny, "the cat sat on the mat", max_tokens=5) == [2, 6, 7, 8, 3]
    assert ids(tiny, "the cat sat on the mat", max_tokens=5, truncate="start") == [2, 9, 6, 10, 3]


def test_truncation_is_reported_and_none_cuts_nothing(tiny):
    cut, whole = tiny.encode(["the cat sat", "the"], max_tokens=4)
    assert (cut.truncated, whole.truncated) == (True, False)
    (uncut,) = tiny.encode(["the cat sat"], max_tokens=4, truncate="none")
    assert len(uncut) == 5
    assert not uncut.truncated


def test_the_prompt_survives_a_cut_at_the_start(tiny):
    (text,) = tiny.encode(
        ["query: the cat sat on the mat"], max_tokens=6, prompt_characters=7, truncate="start"
    )
    assert text.ids.tolist() == [2, 4, 5, 6, 10, 3]
    assert text.num_prompt_tokens == 3


def test_prompt_tokens_count_the_leading_special_token(tiny):
    texts = tiny.encode(["query: the cat", "the cat"], max_tokens=9, prompt_characters=[7, 0])
    assert [text.num_prompt_tokens for text in texts] == [3, 0]


def test_a_token_that_straddles_the_border_is_text(tiny):
    (text,) = tiny.encode(["query"], max_tokens=9, prompt_characters=3)
    assert text.num_prompt_tokens == 1


def test_a_text_that_is_all_prompt_counts_whole(tiny):
    (text,) = tiny.encode(["query:"], max_tokens=9, prompt_characters=6)
    assert text.num_prompt_tokens == 3


def test_long_texts_get_the_ids_of_reading_them_whole(minilm_folder, monkeypatch):
    tokenizer = Tokenizer.from_folder(minilm_folder)
    texts = [
        "word " * 5000,
        "-" * 9000 + " tail " * 4000,
        "a" * 20000,
        "東京 is 京都 " * 3000,
        " " * 30000 + "late words " * 10,
    ]
    quick = tokenizer.encode(texts, max_tokens=64)
    monkeypatch.setattr(tokenizer_module, "CHARACTERS_PER_TOKEN", 10**9)
    for fast, whole in zip(quick, tokenizer.encode(texts, max_tokens=64), strict=True):
        assert fast.ids.tolist() == whole.ids.tolist()
        assert fast.truncated == whole.truncated


@settings(max_examples=60, deadline=None)
@given(
    text=st.text(alphabet="the catsonm:query ", max_size=80),
    limit=st.integers(3, 20),
    side=st.sampled_from(["end", "start"]),
)
def test_a_cut_text_is_a_piece_of_the_whole(tiny, text, limit, side):
    whole = ids(tiny, text, truncate="none")
    cut = tiny.encode([text], max_tokens=limit, truncate=side)[0]
    room = limit - 2
    body = whole[1:-1]
    kept = body[:room] if side == "end" else body[max(0, len(body) - room) :]
    assert cut.ids.tolist() == [2, *kept, 3]
    assert cut.truncated == (len(whole) > limit)


def test_delimiters_take_the_place_of_special_tokens(tiny):
    sided = tiny.with_delimiters([4], [5, 5])
    assert ids(sided, "the cat") == [4, 6, 7, 5, 5]
    assert ids(tiny, "the cat") == [2, 6, 7, 3]
    assert sided.fingerprint != tiny.fingerprint


def test_saving_gives_back_the_same_files(tiny, tmp_path):
    tiny.save(tmp_path)
    again = Tokenizer.from_folder(tmp_path)
    assert again.fingerprint == tiny.fingerprint
    assert (tmp_path / "tokenizer_config.json").read_bytes() == tiny.files["tokenizer_config.json"]


def test_roles_are_found_in_both_written_forms(tiny):
    assert tiny.pad_id == 0
    assert tiny.token_id("eos_token") == 3
    assert tiny.token_id("mask_token") is None
    assert tiny.vocab_size == len(WORDS)


def test_lower_case_happens_before_the_tokenizer(tmp_path):
    backend = tokenizers.Tokenizer(models.WordLevel({"a": 0, "A": 1}, unk_token="a"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.save(str(tmp_path / "tokenizer.json"))
    assert ids(Tokenizer.from_folder(tmp_path), "A a") == [1, 0]
    assert ids(Tokenizer.from_folder(tmp_path, lower_case=True), "A a") == [0, 0]


def test_truncation_and_padding_of_the_file_are_switched_off(tmp_path):
    write_wordpiece(tmp_path)
    backend = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    backend.enable_truncation(4)
    backend.enable_padding(length=9)
    backend.save(str(tmp_path / "tokenizer.json"))
    assert ids(Tokenizer.from_folder(tmp_path), "the cat sat") == [2, 6, 7, 8, 3]


def test_a_wordpiece_vocabulary_alone_gives_the_same_ids(minilm_folder, tmp_path):
    (tmp_path / "vocab.txt").write_bytes((minilm_folder / "vocab.txt").read_bytes())
    (tmp_path / "tokenizer_config.json").write_text('{"do_lower_case": true}')
    ours, real = Tokenizer.from_folder(tmp_path), Tokenizer.from_folder(minilm_folder)
    for text in ("Hello, World!", "naïve café — 東京 unaffable", "[MASK] token", ""):
        assert ids(ours, text) == ids(real, text)


def test_a_folder_without_a_tokenizer_says_how_to_write_one(tmp_path):
    with pytest.raises(
        ModelFolderError, match=r"no tokenizer.json; write one with .*save_pretrained"
    ):
        Tokenizer.from_folder(tmp_path)


def test_a_broken_tokenizer_is_named(tmp_path):
    (tmp_path / "tokenizer.json").write_text("{not json")
    with pytest.raises(ModelFolderError, match=r"tokenizer.json: not a fast tokenizer"):
        Tokenizer.from_folder(tmp_path)


def test_a_broken_config_is_named(tmp_path):
    write_wordpiece(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text("{")
    with pytest.raises(ModelFolderError, match=r"tokenizer_config.json: not valid JSON"):
        Tokenizer.from_folder(tmp_path)


def test_tokenizer_code_is_refused(tmp_path):
    write_wordpiece(tmp_path, config={"auto_map": {"AutoTokenizer": "x--y.Z"}})
    with pytest.raises(ModelFolderError, match="asks to run its own tokenizer code"):
        Tokenizer.from_folder(tmp_path)


def test_no_room_for_text_is_refused(tiny):
    with pytest.raises(ConfigError, match="max_tokens must be > 2, the number of special tokens"):
        tiny.encode(["the"], max_tokens=2)


def test_a_wrong_number_of_prompt_lengths_is_refused(tiny):
    with pytest.raises(ConfigError, match="prompt_characters names 1 texts, there are 2"):
        tiny.encode(["the", "cat"], max_tokens=9, prompt_characters=[1])


def test_a_closing_token_is_appended_once_and_written_down(tmp_path):
    vocabulary = {"a": 0, "b": 1, "<end>": 2, "<s>": 3}
    backend = tokenizers.Tokenizer(models.WordLevel(vocabulary, unk_token="a"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    plain = Tokenizer(backend)
    closing = plain.appending("<end>")
    assert ids(plain, "a b") == [0, 1]
    assert ids(closing, "a b") == [0, 1, 2]
    assert ids(closing, "a b a b", max_tokens=3) == [0, 1, 2]
    assert closing.appending("<end>") is closing
    closing.save(tmp_path)
    again = Tokenizer.from_folder(tmp_path)
    assert ids(again, "a b") == [0, 1, 2]
    assert again.fingerprint != plain.fingerprint
    with pytest.raises(ConfigError, match="no token '<eos>' to put after texts"):
        plain.appending("<eos>")


def test_a_closing_token_stands_behind_the_special_tokens(tiny):
    closing = tiny.appending("mat")
    assert ids(closing, "the cat") == [2, 6, 7, 3, 10]
    assert ids(tiny, "the cat") == [2, 6, 7, 3]


@given(first=st.integers(0, 60), second=st.integers(0, 60), room=st.integers(2, 70))
def test_a_pair_shares_its_room_cutting_the_longer_first(first, second, room):
    kept = shared_room(first, second, room)
    sizes = [first, second]
    while sum(sizes) > room:  # one token at a time from the longer; the first goes on a tie
        sizes[0 if sizes[0] > sizes[1] or (sizes[0] == sizes[1] and first > second) else 1] -= 1
    assert sum(kept) == min(room, first + second)
    assert kept[0] <= first
    assert kept[1] <= second
    assert max(abs(kept[0] - sizes[0]), abs(kept[1] - sizes[1])) <= 1
