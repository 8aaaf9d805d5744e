"""The backbone of a recipe -> a model folder: found, changed, or made from nothing.

A model that the recipe changes (another pooling, bidirectional attention, a head, new tokens) is
written once into the run folder, and every stage starts from there.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opengte.errors import ConfigError, DataError, ModelFolderError
from opengte.evaluation.training_manifest import TrainingManifest
from opengte.model_folder import ModelFolder
from opengte.pipeline.files import file_marks, find_data
from opengte.pipeline.stage_configs import BackboneConfig
from opengte.pipeline.stage_configs.backbone import RopeSettings, Side, TokenizerTraining
from opengte.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from torch import nn

    from opengte.models.backbone import Backbone
    from opengte.models.encoder import Encoder

FindModel = Callable[[str], Path]


def prepare_backbone(
    config: BackboneConfig, folder: Path, *, seed: int, find_model: FindModel
) -> Path:
    """The folder that training starts from.

    Args:
        config: of the recipe.
        folder: where a changed model is kept, by what it was made from.
        seed: of every weight that is drawn.
        find_model: a name -> its folder.

    Raises:
        ConfigError: the model is not of the shape that the recipe states, or cannot be so changed.
        ModelFolderError: no such model, or one that may not be opened.
    """
    found = find_model(config.model) if config.init == "pretrained" else None
    if found is not None:
        if (found / "config.json").is_file():
            folder_there = ModelFolder.read(found)
            check_model(folder_there)
            check_shape(config, folder_there)
        if not config.changes_the_model and not _is_bare(found):
            return found
    target = folder / _fingerprint(config, found, seed)
    if not (target / "config.json").is_file():
        from opengte.models.weights import save_encoder

        encoder = _new(config, seed, find_model) if found is None else _opened(config, found)
        save_encoder(_changed(encoder, config, seed), target)
    # A model made from nothing has learned nothing, which is worth saying.
    before = TrainingManifest()
    if found is not None:
        before = TrainingManifest.of_model(found, name=config.model)
    before.save_if_known(target)
    return target


def check_model(folder: ModelFolder) -> None:
    """Refuse what no stage could use before the first one runs; reads no weight.

    Raises:
        ModelFolderError: an architecture that we do not build, or a tokenizer with more tokens
            than the word embedding has rows.
    """
    from opengte.models.architectures import architecture_of, clean_config

    if folder.architecture.get("model_type") == "nvembed":
        return  # nests its config; it is checked when it is loaded
    config = clean_config(folder.architecture)
    try:
        architecture_of(config)
    except ModelFolderError as error:
        raise ModelFolderError(error.message, path=folder.path) from error
    tokens = Tokenizer.from_folder(folder.backbone_path, lower_case=folder.lower_case).vocab_size
    rows = config.get("vocab_size")
    if isinstance(rows, int) and tokens > rows:
        raise ModelFolderError(
            f"the tokenizer does not match the weights: it has {tokens} tokens, the word "
            f"embedding {rows} rows",
            path=folder.path,
        )


def check_shape(config: BackboneConfig, folder: ModelFolder) -> None:
    """Compare the recipe's shape with the model's own config.

    Raises:
        ConfigError: names the key that differs, with both values.
    """
    from opengte.models.architectures import clean_config

    real = clean_config(folder.architecture)
    for key, stated in clean_config(config.shape).items() if config.shape else ():
        if key in real and _plain(real[key]) != _plain(stated):
            raise ConfigError(
                f"backbone.shape.{key} is {stated!r}, but the model's config.json says "
                f"{real[key]!r}; correct the recipe, or give the model it means",
                path=folder.path,
            )


def _is_bare(folder: Path) -> bool:
    """Whether a folder is a transformers checkpoint that says nothing of pooling."""
    return (folder / "config.json").is_file() and not (folder / "modules.json").is_file()


def change_rope(encoder: Encoder, settings: RopeSettings) -> Encoder:
    """An encoder with other rotary positions; its weights stay.

    Raises:
        ConfigError: it has none.
    """
    from opengte.models import rope

    config = rope.change_rope(
        encoder.backbone.config,
        theta=settings.theta,
        ntk_factor=settings.ntk_factor,
        max_positions=settings.max_positions,
    )
    return _with_backbone(encoder, _rebuilt(encoder.backbone, config))


def _fingerprint(config: BackboneConfig, found: Path | None, seed: int) -> str:
    facts: dict[str, Any] = {
        "settings": config.model_dump(mode="json"),
        "revision": None if found is None else ModelFolder.read(found).revision,
        "seed": seed,
    }
    if isinstance(config.tokenizer, TokenizerTraining):
        facts["texts"] = file_marks(config.tokenizer.texts)
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def _new(config: BackboneConfig, seed: int, find_model: FindModel) -> Encoder:
    from opengte.models.building import new_backbone
    from opengte.models.config import EncoderSettings
    from opengte.models.encoder import Encoder

    tokenizer = _tokenizer(config, find_model)
    shape = {"vocab_size": tokenizer.vocab_size, **_token_ids(tokenizer), **config.shape}
    backbone = new_backbone(shape, seed=seed)
    settings = EncoderSettings(name=config.model, max_tokens=config.max_tokens)
    return Encoder(backbone, tokenizer, settings)


def _token_ids(tokenizer: Tokenizer) -> dict[str, int]:
    """Ids that a config names by role, where the tokenizer has them."""
    roles = ("bos_token", "eos_token", "cls_token", "sep_token")
    known = {f"{role}_id": tokenizer.token_id(role) for role in roles}
    named = {role: number for role, number in known.items() if number is not None}
    return {"pad_token_id": tokenizer.pad_id, **named}


def _tokenizer(config: BackboneConfig, find_model: FindModel) -> Tokenizer:
    if isinstance(config.tokenizer, str):
        return Tokenizer.from_folder(find_model(config.tokenizer))
    from opengte.text.tokenizer_training import TokenizerConfig, train_tokenizer

    training = config.tokenizer
    assert training is not None
    settings = TokenizerConfig(
        kind=training.kind,
        vocab_size=training.vocab_size,
        lower_case=training.lower_case,
        min_frequency=training.min_frequency,
    )
    learned = train_tokenizer(read_texts(training.texts), settings)
    return learned.adding(training.words, whole_words=True)


def read_texts(paths: Sequence[str]) -> Iterator[str]:
    """Texts of documents, of both sides of pairs, or of whatever a folder holds."""
    from opengte.data.readers import read_documents, read_pairs

    for path in paths:
        found = find_data(path)
        try:
            for pair in read_pairs(found):
                yield pair.query
                yield pair.positive
        except DataError:
            yield from (document.full_text for document in read_documents(found))


def _opened(config: BackboneConfig, found: Path) -> Encoder:
    from opengte.models.weights import load_encoder

    normalise = True if config.normalise is None else config.normalise
    return load_encoder(found, pooling=config.pooling, normalise=normalise)


def _changed(encoder: Encoder, config: BackboneConfig, seed: int) -> Encoder:
    """All that the recipe asks for, in an order in which each step sees the ones before it."""
    if config.attention is not None:
        encoder = _with_backbone(encoder, _with_attention(encoder.backbone, config.attention))
    if config.rope is not None:
        encoder = change_rope(encoder, config.rope)
    encoder = _with_tokens(encoder, config, seed)
    given: dict[str, Any] = {
        "pooling": config.pooling,
        "normalise": config.normalise,
        "include_prompt": config.include_prompt,
        "prompts": config.prompts,
        "matryoshka_dimensions": config.matryoshka_dimensions or None,
        "max_tokens": config.max_tokens,
    }
    settings = replace(
        encoder.settings, **{name: value for name, value in given.items() if value is not None}
    )
    return _with_heads(_copy(encoder, settings=settings), config, seed)


def _with_attention(backbone: Backbone, attention: str) -> Backbone:
    from opengte.models.architectures import architecture_of

    if architecture_of(backbone.config).direction != "decoder":
        if attention == "bidirectional":
            return backbone
        raise ConfigError("backbone.attention: causal is for decoders; this one is an encoder")
    causal = attention == "causal"
    config = {**backbone.config, "is_causal": causal}
    if not causal:
        config["sliding_window"] = None  # a window would hide one half of it
    return _rebuilt(backbone, config)


def _with_tokens(encoder: Encoder, config: BackboneConfig, seed: int) -> Encoder:
    """Delimiters, an EOS after every text, and rows of the word embedding for all of them."""
    from opengte.models.vocabulary import resize_vocabulary

    tokenizer, settings = encoder.tokenizer, encoder.settings
    if config.query_delimiters is not None and config.document_delimiters is not None:
        sides = (config.query_delimiters, config.document_delimiters)
        tokenizer = tokenizer.adding([token for side in sides for end in side for token in end])
        settings = replace(
            settings,
            query_delimiters=_ids(tokenizer, config.query_delimiters),
            document_delimiters=_ids(tokenizer, config.document_delimiters),
        )
    if config.append_eos:
        tokenizer = tokenizer.appending(_eos(tokenizer))
    multiple = config.pad_vocabulary_to or 1
    before = encoder.backbone.vocab_size
    wanted = max(tokenizer.vocab_size, before)
    if config.pad_vocabulary_to is not None or wanted > before:
        resize_vocabulary(encoder.backbone, wanted, multiple=multiple)
        _tell_apart(encoder.backbone.word_embedding, before, seed)
    return _copy(encoder, settings=settings, tokenizer=tokenizer)


def _tell_apart(table: nn.Embedding, first: int, seed: int) -> None:
    """New rows begin as the average word; equal ones could not tell one side from the other."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        spread = float(table.weight[:first].std())
        noise = torch.randn(table.weight[first:].shape, generator=generator)
        table.weight[first:] += spread * noise.to(table.weight)


def _with_heads(encoder: Encoder, config: BackboneConfig, seed: int) -> Encoder:
    import torch

    from opengte.models.heads import Dense
    from opengte.models.latent_attention import LatentAttention, LatentAttentionConfig
    from opengte.models.sparse import SparseHead

    size = encoder.backbone.hidden_size
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if config.latent_attention is not None:
            sizes = config.latent_attention.model_dump()
            encoder.latent_attention = LatentAttention(
                LatentAttentionConfig(hidden_size=size, **sizes)
            )
        if config.dense is not None:
            encoder.dense.append(
                Dense(
                    encoder.dimensions,
                    config.dense.out_features,
                    bias=config.dense.bias,
                    activation=config.dense.activation,
                )
            )
        if config.sparse_head and encoder.sparse_head is None:
            encoder.sparse_head = SparseHead(size, ignored_ids=special_ids(encoder.tokenizer))
    too_large = [n for n in encoder.settings.matryoshka_dimensions if n > encoder.dimensions]
    if too_large:
        raise ConfigError(
            f"backbone.matryoshka_dimensions must be <= {encoder.dimensions}, got {too_large[0]}"
        )
    return encoder


def special_ids(tokenizer: Tokenizer) -> list[int]:
    """Ids that stand for no word: those of the roles that the tokenizer's config names."""
    roles = ("cls_token", "bos_token", "eos_token", "sep_token", "pad_token", "unk_token",
             "mask_token")  # fmt: skip
    return sorted({i for role in roles if (i := tokenizer.token_id(role)) is not None})


def _with_backbone(encoder: Encoder, backbone: Backbone) -> Encoder:
    encoder.backbone = backbone
    return _copy(encoder)


def _copy(encoder: Encoder, **changes: Any) -> Encoder:
    """The same parts in a new encoder, which checks that they fit."""
    from opengte.models.encoder import Encoder as Made

    parts: Mapping[str, Any] = {
        "tokenizer": encoder.tokenizer,
        "settings": encoder.settings,
        **changes,
    }
    return Made(
        encoder.backbone,
        parts["tokenizer"],
        parts["settings"],
        latent_attention=encoder.latent_attention,
        sparse_head=encoder.sparse_head,
        dense=list(encoder.dense),  # type: ignore[arg-type]
        compute_dtype=encoder.compute_dtype,
    )


def _rebuilt(backbone: Backbone, config: Mapping[str, Any]) -> Backbone:
    from opengte.models.building import build_backbone

    state = backbone.state_dict()  # type: ignore[attr-defined]
    tensors = {**backbone.carried, **backbone.to_checkpoint(state)}
    return build_backbone(config, tensors)


def _ids(tokenizer: Tokenizer, side: Side) -> tuple[tuple[int, ...], tuple[int, ...]]:
    before, after = (tuple(_id(tokenizer, token) for token in tokens) for tokens in side)
    return before, after


def _id(tokenizer: Tokenizer, token: str) -> int:
    found = tokenizer.backend.token_to_id(token)
    assert found is not None
    return int(found)


def _eos(tokenizer: Tokenizer) -> str:
    named = tokenizer.config.get("eos_token")
    token = named.get("content") if isinstance(named, dict) else named
    if not token:
        raise ConfigError("backbone.append_eos: the tokenizer names no eos_token")
    return str(token)


def _plain(value: Any) -> Any:
    return json.loads(json.dumps(value))
