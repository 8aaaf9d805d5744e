"""Any of transformers' encoders and decoders on packed tokens, behind the ``Backbone`` socket.

Axes: T tokens, C hidden size.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import MethodType
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from opengte.errors import ModelFolderError
from opengte.models.architectures import (
    architecture_of,
    is_causal,
    transformers_class,
    transformers_config,
)
from opengte.models.group_attention import NAME, register
from opengte.models.length_groups import TextLayout
from opengte.models.packing import PackedTokens

if TYPE_CHECKING:
    from transformers import PreTrainedModel

HIDDEN_DROPOUT_KEYS = ("hidden_dropout_prob", "dropout_rate", "hidden_dropout", "dropout")
UNUSED_HEADS = ("lm_head.", "classifier.", "cls.", "head.", "decoder.", "score.", "pooler.",
                "pre_classifier.", "vocab_")  # fmt: skip
"""Parts of released checkpoints that an encoder has no use for: what stands on top of a backbone,
and T5's decoder."""
ATTENTION_DROPOUT_KEYS = ("attention_probs_dropout_prob", "attention_dropout", "dropout_rate")


class TransformersBackbone(nn.Module):
    """A model of transformers that reads packed tokens exactly.

    Args:
        model: the model, made with our attention function.
        config: its cleaned ``config.json``.
    """

    def __init__(self, model: PreTrainedModel, config: Mapping[str, Any]) -> None:
        super().__init__()
        self.model = model
        self.config = dict(config)
        self.compute_dtype = torch.float32
        self.carried: dict[str, Tensor] = {}
        self.dropout = (
            _first(config, HIDDEN_DROPOUT_KEYS),
            _first(config, ATTENTION_DROPOUT_KEYS),
        )
        self._causal = is_causal(config)
        self._num_token_types = int(getattr(model.config, "type_vocab_size", None) or 0)
        self._is_decoder = architecture_of(config).direction == "decoder"
        self._takes_positions = architecture_of(config).takes_positions
        self._gradient_checkpointing = False
        if not self._takes_positions:
            _bias_by_distance(model)

    @property
    def hidden_size(self) -> int:
        """C."""
        return int(self.model.config.hidden_size)

    @property
    def vocab_size(self) -> int:
        """Rows of the word embedding."""
        return self.word_embedding.num_embeddings

    @property
    def word_embedding(self) -> nn.Embedding:
        """The word embedding."""
        embedding = self.model.get_input_embeddings()
        assert isinstance(embedding, nn.Embedding)
        return embedding

    @property
    def num_positions(self) -> int:
        """Longest text it can read, in tokens; T5's relative positions set no limit."""
        return int(getattr(self.model.config, "max_position_embeddings", None) or 1 << 20)

    @property
    def gradient_checkpointing(self) -> bool:
        """Whether layers are computed again in the backward pass."""
        return self._gradient_checkpointing

    @gradient_checkpointing.setter
    def gradient_checkpointing(self, value: bool) -> None:
        if value == self._gradient_checkpointing:
            return
        self._gradient_checkpointing = value
        verb = "enable" if value else "disable"
        options = [{"use_reentrant": False}] if value else []
        # Called activation checkpointing since transformers 5.2x.
        newer = getattr(self.model, f"activation_checkpointing_{verb}", None)
        switch = newer or getattr(self.model, f"gradient_checkpointing_{verb}")
        switch(*options)

    def forward(self, packed: PackedTokens) -> Float[Tensor, "T C"]:
        """The last layer's states of all tokens.

        Float32 weights compute in ``compute_dtype`` through autocast, which keeps norms and sums
        in float32; weights in another format compute in theirs.
        """
        inputs: dict[str, Any] = {"input_ids": packed.token_ids[None]}
        if self._takes_positions:
            inputs["position_ids"] = packed.positions[None]
        if self._is_decoder:
            inputs["use_cache"] = False
        elif packed.token_types is not None and self._num_token_types > 1:
            inputs["token_type_ids"] = packed.token_types[None]
        heads = int(self.model.config.num_attention_heads)
        narrow = self.compute_dtype != torch.float32 and self._has_float32_weights()
        with torch.autocast(packed.token_ids.device.type, self.compute_dtype, enabled=narrow):
            layout = TextLayout.of(packed, num_heads=heads)
            output = self.model(**inputs, layout=layout, causal=self._causal)
        states: Tensor = output.last_hidden_state[0]
        return states

    def set_dropout(self, hidden: float, attention: float) -> None:
        """Set the dropout of hidden states and of attention probabilities."""
        self.dropout = (hidden, attention)
        for module in self.model.modules():
            if isinstance(module, nn.Dropout):
                module.p = hidden
            elif isinstance(getattr(module, "attention_dropout", None), float | int):
                vars(module)["attention_dropout"] = attention
            elif hasattr(module, "relative_attention_num_buckets"):  # T5's attention
                vars(module)["dropout"] = attention
        for module in self.model.modules():
            if hasattr(module, "q_lin"):  # DistilBERT's attention keeps its own as a module
                module.dropout.p = attention  # type: ignore[union-attr]

    def to_checkpoint(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Its parameters (or their gradients) -> transformers' names, tied ones once."""
        tied = set(self.model.all_tied_weights_keys)
        bare = {name.removeprefix("model."): value for name, value in state.items()}
        return {name: value for name, value in bare.items() if name not in tied}

    def _has_float32_weights(self) -> bool:
        return self.model.dtype == torch.float32


def load_transformers_backbone(
    config: Mapping[str, Any], tensors: dict[str, Tensor], *, dtype: torch.dtype = torch.float32
) -> TransformersBackbone:
    """Build the model of a cleaned config and fill it with a checkpoint's weights.

    Args:
        config: from ``clean_config``.
        tensors: the checkpoint, under any of the names that transformers knows.
        dtype: number format of the weights.

    Raises:
        ModelFolderError: a weight is missing, is unknown, or has another shape.
    """
    register()
    options = dict(architecture_of(config).options or {})
    tensors = {n: v for n, v in tensors.items() if not n.startswith(UNUSED_HEADS)}
    load: Any = transformers_class(config).from_pretrained
    with quietly():
        model, report = load(
            None,
            config=copy.deepcopy(transformers_config(config)),
            state_dict=tensors,
            attn_implementation=NAME,
            dtype=dtype,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are reported, and refused below
            **options,
        )
    _refuse_incomplete(report)
    return TransformersBackbone(model, config)


def new_transformers_backbone(
    config: Mapping[str, Any], *, seed: int | None, device: str = "cpu"
) -> TransformersBackbone:
    """Build the model of a cleaned config with random weights, or without any on ``meta``.

    Args:
        config: from ``clean_config``.
        seed: of the random weights; the global generator is left as it was.
        device: ``meta`` makes names and shapes alone, at any size.
    """
    register()
    options = dict(architecture_of(config).options or {})
    cuda = range(torch.cuda.device_count())
    with torch.random.fork_rng(devices=cuda), torch.device(device):
        if seed is not None:
            torch.manual_seed(seed)
        model = transformers_class(config)._from_config(
            copy.deepcopy(transformers_config(config)),
            attn_implementation=NAME,
            dtype=torch.float32,
            **options,
        )
    return TransformersBackbone(model, config)


@contextmanager
def quietly() -> Iterator[None]:
    """No progress bar and no table of missing weights: what it says is an error of ours."""
    from transformers.utils import logging

    level, had_bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if had_bar:
            logging.enable_progress_bar()


def _refuse_incomplete(report: Mapping[str, Any]) -> None:
    for kind, words in (
        ("missing_keys", "weights are missing"),
        ("unexpected_keys", "weights that the architecture does not have"),
        ("mismatched_keys", "weights of another shape than config.json asks for"),
    ):
        names = sorted(str(name[0] if isinstance(name, tuple) else name) for name in report[kind])
        if names:
            raise ModelFolderError(f"{words}: {', '.join(names[:5])}")


def _bias_by_distance(model: PreTrainedModel) -> None:
    """Let T5's first layer give its bias by distance, (H, 2 L - 1), and not for all pairs of T.

    transformers would compute T x T biases for one packed row of T tokens.
    """

    def compute_bias(
        attention: Any, query_length: int, key_length: int, device: Any = None, **_: Any
    ) -> Tensor:
        del key_length
        device = device or attention.relative_attention_bias.weight.device
        distance = torch.arange(1 - query_length, query_length, device=device)
        bucket = attention._relative_position_bucket(
            distance,
            bidirectional=True,
            num_buckets=attention.relative_attention_num_buckets,
            max_distance=attention.relative_attention_max_distance,
        )
        bias: Tensor = attention.relative_attention_bias(bucket).t()
        return bias

    for module in model.modules():
        if hasattr(module, "relative_attention_bias"):
            module.compute_bias = MethodType(compute_bias, module)  # type: ignore[assignment]


def _first(config: Mapping[str, Any], names: tuple[str, ...]) -> float:
    return next((float(config[name]) for name in names if config.get(name) is not None), 0.0)
