"""BERT's encoder on packed tokens: BERT, MiniLM, RoBERTa and XLM-R are this one architecture.

Axes: T tokens, C hidden size, H heads, D = C / H. Post-norm transformer with learned absolute
positions (Devlin et al. 2018). Token states are held in the number format of computation, weights
in float32. Checkpoints of transformers' ``BertModel``, ``RobertaModel`` and ``XLMRobertaModel``
are read and written under their own names.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from opengte.errors import ModelFolderError
from opengte.models.attention import attend
from opengte.models.bert_names import checkpoint_names
from opengte.models.dropout import add_dropout, dropout
from opengte.models.length_groups import TextLayout
from opengte.models.packing import PackedTokens
from opengte.models.precision import CastLinear

SHIFTED_POSITIONS = ("roberta", "xlm-roberta", "camembert")
"""Model types whose positions begin behind the padding id."""
ACTIVATIONS = {"gelu": "none", "gelu_new": "tanh", "gelu_pytorch_tanh": "tanh"}


class PackedBert(nn.Module):
    """The encoder: packed token ids in, token states out.

    Args:
        config: the contents of a transformers ``config.json`` of type BERT, RoBERTa or XLM-R.

    Raises:
        ModelFolderError: the config asks for something this encoder does not have.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        _refuse_unknown(config)
        self.config = dict(config)
        self.num_heads = int(config["num_attention_heads"])
        self.compute_dtype = torch.float32
        self.gradient_checkpointing = False
        self.carried: dict[str, Tensor] = {}
        self.dropout = (
            float(config.get("hidden_dropout_prob", 0.1)),
            float(config.get("attention_probs_dropout_prob", 0.1)),
        )
        self.embeddings = Embeddings(config)
        self.layers = nn.ModuleList(Layer(config) for _ in range(int(config["num_hidden_layers"])))

    def forward(self, packed: PackedTokens) -> Float[Tensor, "T C"]:
        """The last layer's states of all tokens, in ``compute_dtype``."""
        states = self.embeddings(packed).to(self.compute_dtype)
        layout = TextLayout.of(packed, num_heads=self.num_heads)
        for layer in self.layers:
            if self.gradient_checkpointing and torch.is_grad_enabled():
                states = checkpoint(layer, states, layout, use_reentrant=False)
            else:
                states = layer(states, layout)
        return states

    @property
    def hidden_size(self) -> int:
        """C."""
        return int(self.config["hidden_size"])

    @property
    def vocab_size(self) -> int:
        """Rows of the word embedding."""
        return self.embeddings.word.num_embeddings

    @property
    def word_embedding(self) -> nn.Embedding:
        """The word embedding."""
        return self.embeddings.word

    @property
    def num_positions(self) -> int:
        """Longest text it can read, in tokens."""
        return self.embeddings.position.num_embeddings - self.embeddings.first_position

    def to_checkpoint(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Its parameters (or their gradients), by name -> transformers' names, fused ones split."""
        result = {}
        for name, value in state.items():
            names = checkpoint_names(name)
            for their_name, part in zip(names, value.chunk(len(names)), strict=True):
                result[their_name] = part
        return result

    def set_dropout(self, hidden: float, attention: float) -> None:
        """Set the dropout of hidden states and of attention probabilities."""
        self.dropout = (hidden, attention)
        for module in self.modules():
            if isinstance(module, Embeddings | Layer | FeedForward):
                module.dropout = hidden
            elif isinstance(module, SelfAttention):
                module.dropout, module.probability_dropout = hidden, attention


class Embeddings(nn.Module):
    """Word, position and token-type vectors, summed and normalised, in float32."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        size = int(config["hidden_size"])
        self.word = nn.Embedding(int(config["vocab_size"]), size)
        self.position = nn.Embedding(int(config["max_position_embeddings"]), size)
        self.token_type = nn.Embedding(int(config.get("type_vocab_size", 2)), size)
        self.norm = nn.LayerNorm(size, eps=float(config.get("layer_norm_eps", 1e-12)))
        self.dropout = float(config.get("hidden_dropout_prob", 0.1))
        shifted = config["model_type"] in SHIFTED_POSITIONS
        self.first_position = int(config.get("pad_token_id", 1)) + 1 if shifted else 0

    def forward(self, packed: PackedTokens) -> Float[Tensor, "T C"]:
        """The states that enter the first layer."""
        types = packed.token_types if self.token_type.num_embeddings > 1 else None
        kinds = self.token_type.weight[0] if types is None else self.token_type(types)
        total = self.word(packed.token_ids) + kinds
        total = total + self.position(packed.positions + self.first_position)
        return dropout(self.norm(total), self.dropout, training=self.training)


class SelfAttention(nn.Module):
    """Attention inside each text, projected, added to its input and normalised."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        size = int(config["hidden_size"])
        self.num_heads = int(config["num_attention_heads"])
        self.qkv = CastLinear(size, 3 * size)
        self.out = CastLinear(size, size)
        self.norm = nn.LayerNorm(size, eps=float(config.get("layer_norm_eps", 1e-12)))
        self.dropout = float(config.get("hidden_dropout_prob", 0.1))
        self.probability_dropout = float(config.get("attention_probs_dropout_prob", 0.1))

    def forward(self, states: Float[Tensor, "T C"], layout: TextLayout) -> Float[Tensor, "T C"]:
        """norm(states + dropout(attention(states)))."""
        qkv = self.qkv(states).unflatten(-1, (3, self.num_heads, -1))
        mixed = attend(qkv, layout, dropout=self.probability_dropout, training=self.training)
        projected = self.out(mixed.flatten(1))
        return self.norm(add_dropout(states, projected, self.dropout, training=self.training))


class FeedForward(nn.Module):
    """Two linear layers around GELU, added to their input and normalised."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        size, inner = int(config["hidden_size"]), int(config["intermediate_size"])
        self.up = CastLinear(size, inner)
        self.down = CastLinear(inner, size)
        self.norm = nn.LayerNorm(size, eps=float(config.get("layer_norm_eps", 1e-12)))
        self.dropout = float(config.get("hidden_dropout_prob", 0.1))
        self.gelu = ACTIVATIONS[config.get("hidden_act", "gelu")]

    def forward(self, states: Float[Tensor, "T C"]) -> Float[Tensor, "T C"]:
        """norm(states + dropout(down(gelu(up(states)))))."""
        inner = functional.gelu(self.up(states), approximate=self.gelu)
        changed = self.down(inner)
        return self.norm(add_dropout(states, changed, self.dropout, training=self.training))


class Layer(nn.Module):
    """Attention, then feed-forward."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        self.attention = SelfAttention(config)
        self.feed_forward = FeedForward(config)

    def forward(self, states: Float[Tensor, "T C"], layout: TextLayout) -> Float[Tensor, "T C"]:
        """One layer."""
        result: Tensor = self.feed_forward(self.attention(states, layout))
        return result


def initialise(backbone: PackedBert, *, seed: int) -> None:
    """Give a backbone BERT's random weights: normal with ``initializer_range``, biases zero."""
    generator = torch.Generator().manual_seed(seed)
    spread = float(backbone.config.get("initializer_range", 0.02))
    with torch.no_grad():
        for name, parameter in backbone.named_parameters():
            if name.endswith(".bias"):
                parameter.zero_()
            elif ".norm." in name:
                parameter.fill_(1.0)
            else:
                parameter.normal_(0.0, spread, generator=generator)
        padding = backbone.config.get("pad_token_id")
        if padding is not None:
            backbone.embeddings.word.weight[int(padding)].zero_()


def _refuse_unknown(config: Mapping[str, Any]) -> None:
    if config.get("position_embedding_type", "absolute") != "absolute":
        raise ModelFolderError(
            f"position_embedding_type {config['position_embedding_type']!r} is not supported; "
            "only 'absolute' is"
        )
    if config.get("is_decoder") or config.get("add_cross_attention"):
        raise ModelFolderError("a BERT with is_decoder or add_cross_attention is not an encoder")
    if config.get("hidden_act", "gelu") not in ACTIVATIONS:
        known = ", ".join(ACTIVATIONS)
        raise ModelFolderError(f"hidden_act {config['hidden_act']!r} is not one of {known}")
