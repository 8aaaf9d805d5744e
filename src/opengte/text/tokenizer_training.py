"""A corpus -> a tokenizer of its own, in the three forms that backbones use."""

from __future__ import annotations

import json
from collections.abc import Iterable
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
    backend, trainer = _untrained(config, list(roles.values()))
    count = 0

    def counted() -> Iterable[str]:
        nonlocal count
        for text in texts:
            count += 1
            yield text

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


def _untrained(
    config: TokenizerConfig, special: list[str]
) -> tuple[tokenizers.Tokenizer, trainers.Trainer]:
    size = config.vocab_size
    if config.kind == "wordpiece":
        backend = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
        backend.normalizer = normalizers.BertNormalizer(lowercase=config.lower_case)
        backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        backend.decoder = decoders.WordPiece()
        return backend, trainers.WordPieceTrainer(
            vocab_size=size,
            min_frequency=config.min_frequency,
            special_tokens=special,
            show_progress=False,
        )
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
