"""Texts -> token ids, by the fast tokenizer of a model folder; JSON only, no torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers

from opengte.atomic import write_bytes
from opengte.errors import ConfigError, ModelFolderError
from opengte.records import Truncate
from opengte.text.truncation import TokenizedText, shared_room, truncate_ids

COMPANION_FILES = (
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
)
CHARACTERS_PER_TOKEN = 24
"""A text is first read up to so many characters per allowed token; see ``_shorten``."""


class Tokenizer:
    """The tokenizer of a model: ids with special tokens, prompt lengths, honest truncation.

    Args:
        backend: a fast tokenizer; its own truncation and padding are switched off.
        config: the contents of ``tokenizer_config.json``.
        files: the files it was read from, by name, so that saving gives them back unchanged.
        delimiters: ids put before and after every text in the place of the tokenizer's own
            special tokens (cpt-text's side-specific delimiters, a decoder's closing token).
        lower_case: whether texts are lower-cased first (``do_lower_case`` of
            ``sentence_bert_config.json``).
    """

    def __init__(
        self,
        backend: tokenizers.Tokenizer,
        *,
        config: Mapping[str, Any] | None = None,
        files: Mapping[str, bytes] | None = None,
        delimiters: tuple[tuple[int, ...], tuple[int, ...]] | None = None,
        lower_case: bool = False,
    ) -> None:
        self.backend = backend
        self.backend.no_truncation()
        self.backend.no_padding()
        self.config = dict(config or {})
        self.files = dict(files or {"tokenizer.json": backend.to_str().encode("utf-8")})
        self.delimiters = delimiters
        self.lower_case = lower_case
        self._leading, self._trailing = delimiters or self._own_special_tokens()

    @classmethod
    def from_folder(cls, path: str | Path, *, lower_case: bool = False) -> Tokenizer:
        """Read ``tokenizer.json`` (or the ``vocab.txt`` of a WordPiece model) and its config.

        Raises:
            ModelFolderError: neither is there, or one of them cannot be read.
        """
        folder = Path(path)
        files = {
            name: (folder / name).read_bytes()
            for name in ("tokenizer.json", *COMPANION_FILES)
            if (folder / name).is_file()
        }
        config = _parse_config(files.get("tokenizer_config.json"), folder)
        if "tokenizer.json" in files:
            backend = _parse_backend(files["tokenizer.json"], folder / "tokenizer.json")
        elif "vocab.txt" in files:
            backend = _wordpiece(files["vocab.txt"], config)
            files["tokenizer.json"] = backend.to_str().encode("utf-8")
        else:
            raise ModelFolderError(
                "no tokenizer.json; write one with "
                "transformers.AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER)",
                path=folder,
            )
        return cls(backend, config=config, files=files, lower_case=lower_case)

    @property
    def vocab_size(self) -> int:
        """Rows an embedding matrix must have: the highest id plus one."""
        return max(self.backend.get_vocab(with_added_tokens=True).values(), default=-1) + 1

    @property
    def pad_id(self) -> int:
        """Id of the padding token; 0 where the tokenizer names none (packed inputs need none)."""
        named = self.token_id("pad_token")
        return 0 if named is None else named

    @property
    def num_special_tokens(self) -> int:
        """Special tokens that are put around every text."""
        return len(self._leading) + len(self._trailing)

    @property
    def fingerprint(self) -> str:
        """SHA-256 over all that decides which ids a text gets."""
        digest = hashlib.sha256(self.files["tokenizer.json"])
        digest.update(json.dumps([self.delimiters, self.lower_case]).encode())
        return digest.hexdigest()

    def token_id(self, role: str) -> int | None:
        """Id of the token that ``tokenizer_config.json`` names for a role, e.g. ``eos_token``."""
        token = self.config.get(role)
        content = token.get("content") if isinstance(token, dict) else token
        return None if content is None else self.backend.token_to_id(content)

    def with_delimiters(self, leading: Sequence[int], trailing: Sequence[int]) -> Tokenizer:
        """The same tokenizer, with these ids around every text instead of its own."""
        return Tokenizer(
            self.backend,
            config=self.config,
            files=self.files,
            delimiters=(tuple(leading), tuple(trailing)),
            lower_case=self.lower_case,
        )

    def encode(
        self,
        texts: Sequence[str],
        *,
        max_tokens: int,
        prompt_characters: int | Sequence[int] = 0,
        truncate: Truncate = "end",
    ) -> list[TokenizedText]:
        """Tokenise ``texts``, special tokens included.

        Args:
            texts: N texts with their prompts in front.
            max_tokens: the longest result in tokens, special tokens included.
            prompt_characters: how many characters of each text are prompt. A token counts as
                prompt when it ends inside it: one that straddles the border is text.
            truncate: which end is cut off; ``start`` keeps the prompt; ``none`` cuts nothing
                and leaves it to the caller to refuse.

        Raises:
            ConfigError: ``max_tokens`` leaves no room for text; a wrong number of prompts.
        """
        if max_tokens <= self.num_special_tokens:
            raise ConfigError(
                f"max_tokens must be > {self.num_special_tokens}, the number of special tokens, "
                f"got {max_tokens}"
            )
        prompts = self._prompt_lengths(texts, prompt_characters)
        if self.lower_case:
            texts = [text.lower() for text in texts]
        parts = [_shorten(text, max_tokens) if truncate == "end" else text for text in texts]
        encodings = self._bodies(parts, with_offsets=any(prompts))
        for i, (text, part) in enumerate(zip(texts, parts, strict=True)):
            # Few long tokens (a line of dashes): the shortened text does not fill the window.
            if len(part) < len(text) and len(encodings[i].ids) < max_tokens + 8:
                encodings[i] = self._bodies([text], with_offsets=any(prompts))[0]
        return [
            self._finish(encoding, num_characters, max_tokens, truncate)
            for encoding, num_characters in zip(encodings, prompts, strict=True)
        ]

    def encode_pairs(
        self, pairs: Sequence[tuple[str, str]], *, max_tokens: int
    ) -> list[TokenizedText]:
        """Tokenise pairs as one text each, as cross-encoders read them; the longer is cut first.

        Raises:
            ConfigError: ``max_tokens`` leaves no room for text.
        """
        leading, middle, trailing, typed = self._pair_template()
        room = max_tokens - len(leading) - len(middle) - len(trailing)
        if room < 2:
            raise ConfigError(f"max_tokens {max_tokens} leaves no room for a pair of texts")
        texts = [text.lower() if self.lower_case else text for pair in pairs for text in pair]
        bodies = self._bodies([_shorten(t, max_tokens) for t in texts], with_offsets=False)
        results = []
        for first, second in zip(bodies[::2], bodies[1::2], strict=True):
            sizes = shared_room(len(first.ids), len(second.ids), room)
            front = [*leading, *first.ids[: sizes[0]], *middle]
            ids = np.asarray([*front, *second.ids[: sizes[1]], *trailing], dtype=np.int32)
            whole = sum(sizes) == len(first.ids) + len(second.ids)
            start = len(front) if typed else None
            results.append(TokenizedText(ids, 0, not whole, start))
        return results

    def appending(self, token: str) -> Tokenizer:
        """The same tokenizer with ``token`` put after every text, if it does not do so already.

        Decoders that pool their last token need one that closes the text (E5-mistral, GTE-Qwen2).
        It is written into ``tokenizer.json``, so that every other tool does the same.

        Raises:
            ConfigError: the vocabulary does not have the token.
        """
        added = self.backend.token_to_id(token)
        if added is None:
            raise ConfigError(f"the vocabulary has no token {token!r} to put after texts")
        if self._trailing[-1:] == (added,):
            return self
        backend = tokenizers.Tokenizer.from_str(self.backend.to_str())
        pieces = [str(backend.id_to_token(i)) for i in (*self._leading, *self._trailing, added)]
        names = [f"S{i}" for i in range(len(pieces))]
        split = len(self._leading)
        backend.post_processor = tokenizers.processors.TemplateProcessing(
            single=[*names[:split], "$A", *names[split:]],
            special_tokens=[
                {"id": name, "ids": [backend.token_to_id(piece)], "tokens": [piece]}
                for name, piece in zip(names, pieces, strict=True)
            ],
        )
        files = {**self.files, "tokenizer.json": backend.to_str().encode("utf-8")}
        return Tokenizer(backend, config=self.config, files=files, lower_case=self.lower_case)

    def adding(self, tokens: Sequence[str], *, whole_words: bool = False) -> Tokenizer:
        """The same tokenizer that also knows ``tokens``; those it lacks get the next ids.

        Args:
            tokens: one id each.
            whole_words: they are read where they stand alone, not inside of words.
        """
        missing = [t for t in dict.fromkeys(tokens) if self.backend.token_to_id(t) is None]
        if not missing:
            return self
        backend = tokenizers.Tokenizer.from_str(self.backend.to_str())
        backend.add_special_tokens(
            [tokenizers.AddedToken(t, special=True, single_word=whole_words) for t in missing]
        )
        files = {**self.files, "tokenizer.json": backend.to_str().encode("utf-8")}
        return Tokenizer(backend, config=self.config, files=files, lower_case=self.lower_case)

    def spans(self, text: str) -> list[tuple[int, int]]:
        """Where each token of ``text`` begins and ends, in characters; no special tokens."""
        return list(self.backend.encode(text, add_special_tokens=False).offsets)

    def save(self, folder: str | Path) -> None:
        """Write the files it was read from, unchanged."""
        for name, content in self.files.items():
            write_bytes(Path(folder) / name, content)

    def _bodies(self, texts: Sequence[str], *, with_offsets: bool) -> list[tokenizers.Encoding]:
        encode = self.backend.encode_batch if with_offsets else self.backend.encode_batch_fast
        return list(encode(list(texts), add_special_tokens=False))

    def _finish(
        self,
        encoding: tokenizers.Encoding,
        prompt_characters: int,
        max_tokens: int,
        truncate: Truncate,
    ) -> TokenizedText:
        ids = np.asarray([*self._leading, *encoding.ids, *self._trailing], dtype=np.int32)
        num_prompt = 0
        if prompt_characters:
            ends = (end for _, end in encoding.offsets)
            inside = next((i for i, end in enumerate(ends) if end > prompt_characters), None)
            num_prompt = len(self._leading) + (len(encoding.ids) if inside is None else inside)
        cut = truncate_ids(
            ids,
            max_tokens=max_tokens,
            side=truncate,
            num_leading=max(len(self._leading), num_prompt if truncate == "start" else 0),
            num_trailing=len(self._trailing),
        )
        return TokenizedText(cut, min(num_prompt, len(cut)), len(cut) < len(ids))

    def _own_special_tokens(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        with_them = self.backend.encode("a", add_special_tokens=True).ids
        without = self.backend.encode("a", add_special_tokens=False).ids
        for start in range(len(with_them) - len(without) + 1):
            if with_them[start : start + len(without)] == without:
                return tuple(with_them[:start]), tuple(with_them[start + len(without) :])
        raise ModelFolderError("the tokenizer's post-processor changes the text's own tokens")

    def _pair_template(self) -> tuple[list[int], list[int], list[int], bool]:
        """Special ids before, between and after two texts; whether types tell them apart."""
        pair = self.backend.encode("a", "b", add_special_tokens=True)
        first, second = (self.backend.encode(t, add_special_tokens=False).ids for t in "ab")
        ids = list(pair.ids)
        start = next(i for i in range(len(ids)) if ids[i : i + len(first)] == first)
        behind = start + len(first)
        where = next(i for i in range(behind, len(ids)) if ids[i : i + len(second)] == second)
        typed = pair.type_ids[where] == 1 and self._gives_token_types()
        return ids[:start], ids[behind:where], ids[where + len(second) :], typed

    def _gives_token_types(self) -> bool:
        """Whether transformers would hand the model token types, by the tokenizer's config."""
        names = self.config.get("model_input_names")
        if names is not None:
            return "token_type_ids" in names
        generic = ("PreTrainedTokenizerFast", "TokenizersBackend")
        return self.config.get("tokenizer_class") not in generic

    @staticmethod
    def _prompt_lengths(texts: Sequence[str], given: int | Sequence[int]) -> Sequence[int]:
        if isinstance(given, int):
            return [given] * len(texts)
        if len(given) != len(texts):
            raise ConfigError(f"prompt_characters names {len(given)} texts, there are {len(texts)}")
        return given


def _shorten(text: str, max_tokens: int) -> str:
    """The beginning of a long text, cut at white space: what lies far behind is never read.

    Tokenisers split at white space first, so the ids of the beginning do not depend on the rest.
    """
    limit = CHARACTERS_PER_TOKEN * (max_tokens + 8)
    if len(text) <= 2 * limit:
        return text
    end = next((i for i in range(limit, 2 * limit) if text[i].isspace()), None)
    return text if end is None else text[:end]


def _parse_config(content: bytes | None, folder: Path) -> dict[str, Any]:
    if content is None:
        return {}
    try:
        config = json.loads(content)
    except ValueError as error:
        path = folder / "tokenizer_config.json"
        raise ModelFolderError(f"not valid JSON: {error}", path=path) from error
    if "auto_map" in config:
        raise ModelFolderError(
            "asks to run its own tokenizer code (auto_map), which is never done; remove the key "
            "if tokenizer.json is complete",
            path=folder / "tokenizer_config.json",
        )
    return dict(config)


def _parse_backend(content: bytes, path: Path) -> tokenizers.Tokenizer:
    try:
        return tokenizers.Tokenizer.from_buffer(content)
    except Exception as error:  # the Rust side raises bare Exception
        raise ModelFolderError(f"not a fast tokenizer: {error}", path=path) from error


def _wordpiece(vocabulary: bytes, config: Mapping[str, Any]) -> tokenizers.Tokenizer:
    """BERT's tokenizer from its vocabulary, as old checkpoints bring it."""
    words = vocabulary.decode("utf-8").splitlines()
    ids = {word: i for i, word in enumerate(words)}
    backend = tokenizers.Tokenizer(tokenizers.models.WordPiece(ids, unk_token="[UNK]"))
    backend.normalizer = tokenizers.normalizers.BertNormalizer(
        lowercase=config.get("do_lower_case", True),
        handle_chinese_chars=config.get("tokenize_chinese_chars", True),
        strip_accents=config.get("strip_accents"),
    )
    backend.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    backend.decoder = tokenizers.decoders.WordPiece()
    special = [word for word in ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]") if word in ids]
    backend.add_special_tokens([tokenizers.AddedToken(word, special=True) for word in special])
    backend.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", ids["[CLS]"]), ("[SEP]", ids["[SEP]"])],
    )
    return backend
