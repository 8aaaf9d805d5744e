"""A corpus -> a tokenizer of its own, in the three forms that backbones use.

The same texts give the same WordPiece and BPE vocabulary, ids included. Unigram's do not: its
trainer adds up probabilities in the order of a hash table, and pieces at the edge of the
vocabulary come and go with the last bits of those sums.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

from opengte.errors import ConfigError, DataError
from opengte.text.tokenizer import Tokenizer


@dataclass(frozen=True, kw_only=True)
class TokenizerConfig:
    """What tokenizer to train.

    Attributes:
        kind: ``wordpiece`` (BERT), ``bpe`` on bytes (RoBERTa, Qwen) or ``unigram`` (XLM-R).
        vocab_size: most entries, special tokens included; BERT has 30,522.
        lower_case: ``wordpiece`` alone; BERT's uncased models do.
        min_frequency: pieces that occur less often are not learned.

    Raises:
        ConfigError: a value that cannot be.
    """

    kind: Literal["wordpiece", "bpe", "unigram"] = "wordpiece"
    vocab_size: int = 30_522
    lower_case: bool = True
    min_frequency: int = 2

    def __post_init__(self) -> None:
        if self.kind not in ("wordpiece", "bpe", "unigram"):
            raise ConfigError(f"kind must be wordpiece, bpe or unigram, got {self.kind!r}")
        smallest = 300 if self.kind == "bpe" else 10
        if self.vocab_size < smallest:
            raise ConfigError(
                f"vocab_size must be >= {smallest} for {self.kind}, got {self.vocab_size}"
            )


BERT_ROLES = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
ROBERTA_ROLES = {"cls": "<s>", "pad": "<pad>", "sep": "</s>", "unk": "<unk>", "mask": "<mask>"}


def train_tokenizer(texts: Iterable[str], config: TokenizerConfig) -> Tokenizer:
    """Learn a vocabulary from ``texts``.

    Raises:
        DataError: no text, or too little of it for a single piece.
    """
    roles = BERT_ROLES if config.kind == "wordpiece" else ROBERTA_ROLES
    count = 0

    def counted() -> Iterator[str]:
        nonlocal count
        for text in texts:
            count += 1
            yield text

    if config.kind == "wordpiece":
        backend = _trained_wordpiece(counted(), config, list(roles.values()))
    else:
        backend, trainer = _untrained(config, list(roles.values()))
        backend.train_from_iterator(counted(), trainer)
    learned = backend.get_vocab_size() - len(roles)
    if count == 0 or learned <= 0:
        raise DataError(f"a tokenizer needs text to learn from; got {count} texts")
    backend.post_processor = _around(config, roles, backend.get_vocab())
    settings: dict[str, Any] = {f"{role}_token": token for role, token in roles.items()}
    settings["eos_token"] = roles["sep"]
    settings["bos_token"] = roles["cls"]
    settings["tokenizer_class"] = "PreTrainedTokenizerFast"
    files = {
        "tokenizer.json": backend.to_str().encode("utf-8"),
        "tokenizer_config.json": json.dumps(settings, indent=1).encode("utf-8"),
    }
    return Tokenizer(backend, config=settings, files=files)


COPIES_A_TEXT = 1024
"""Repetitions of one word handed to the trainer at once."""


def _trained_wordpiece(
    texts: Iterable[str], config: TokenizerConfig, special: list[str]
) -> tokenizers.Tokenizer:
    """Train with the ids of all single characters fixed beforehand.

    The trainer numbers ``##c`` in the order of a hash table and breaks ties between merges by
    these ids; two runs then learn different words. Words are counted here, so that every
    character is known before it starts; it takes them as special tokens, which have the order
    they are given in.
    """
    normalizer = normalizers.BertNormalizer(lowercase=config.lower_case)
    splitter = pre_tokenizers.BertPreTokenizer()
    words: Counter[str] = Counter()
    for text in texts:
        pieces = splitter.pre_tokenize_str(normalizer.normalize_str(text))
        words.update(word for word, _ in pieces)
    words, characters = _frequent_characters(words, config.vocab_size - len(special))
    backend = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    trainer = trainers.WordPieceTrainer(
        vocab_size=config.vocab_size,
        min_frequency=config.min_frequency,
        special_tokens=[*special, *characters],
        show_progress=False,
    )
    backend.train_from_iterator(_repeated(words), trainer)
    written = json.loads(backend.to_str())
    # Characters are ordinary pieces again; as added tokens they would be cut out of words.
    written["added_tokens"] = [one for one in written["added_tokens"] if one["content"] in special]
    backend = tokenizers.Tokenizer.from_str(json.dumps(written))
    backend.normalizer = normalizer
    backend.pre_tokenizer = splitter
    backend.decoder = decoders.WordPiece()
    return backend


def _frequent_characters(words: Counter[str], room: int) -> tuple[Counter[str], list[str]]:
    """Words spelled in the ``room`` most frequent characters, and these characters.

    A character is one entry where it begins a word and another, ``##c``, where it goes on.
    """
    counts: Counter[str] = Counter()
    for word, count in words.items():
        for place, character in enumerate(word):
            counts[character if place == 0 else f"##{character}"] += count
    kept: set[str] = set()
    for form in sorted(counts, key=lambda form: (-counts[form], form)):
        wanted = kept | {form, form.removeprefix("##") or form}  # the trainer adds the plain one
        if len(wanted) > room:
            break
        kept = wanted
    spelled = Counter(
        {
            word: count
            for word, count in words.items()
            if word[0] in kept and all(f"##{character}" in kept for character in word[1:])
        }
    )
    return spelled, sorted(kept)


def _repeated(words: Counter[str]) -> Iterator[str]:
    for word, count in words.items():
        full, rest = divmod(count, COPIES_A_TEXT)
        for _ in range(full):
            yield " ".join([word] * COPIES_A_TEXT)
        if rest:
            yield " ".join([word] * rest)


def _untrained(
    config: TokenizerConfig, special: list[str]
) -> tuple[tokenizers.Tokenizer, trainers.Trainer]:
    size = config.vocab_size
    if config.kind == "bpe":
        backend = tokenizers.Tokenizer(models.BPE())
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        backend.decoder = decoders.ByteLevel()
        return backend, trainers.BpeTrainer(
            vocab_size=size,
            min_frequency=config.min_frequency,
            special_tokens=special,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
    backend = tokenizers.Tokenizer(models.Unigram())
    backend.normalizer = normalizers.NFKC()
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Metaspace()
    return backend, trainers.UnigramTrainer(
        vocab_size=size, special_tokens=special, unk_token="<unk>", show_progress=False
    )


def _around(
    config: TokenizerConfig, roles: dict[str, str], ids: dict[str, int]
) -> processors.PostProcessor:
    """BERT puts [CLS] A [SEP] B [SEP], RoBERTa <s> A </s></s> B </s>."""
    first, last = roles["cls"], roles["sep"]
    bert = config.kind == "wordpiece"
    pair = f"{first} $A {last} $B:1 {last}:1" if bert else f"{first} $A {last} {last} $B {last}"
    return processors.TemplateProcessing(
        single=f"{first} $A {last}",
        pair=pair,
        special_tokens=[(first, ids[first]), (last, ids[last])],
    )
