"""Token states -> logits over the vocabulary: the head of masked language models.

Axes: T tokens, C hidden size, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from opengte.errors import ModelFolderError
from opengte.models.backbone import Backbone
from opengte.models.folder_writer import save_tensors

FILE = "token_head.safetensors"
"""Beside a model's weights; other tools pass it over."""
RELEASED = (
    {
        "dense": "cls.predictions.transform.dense",
        "norm": "cls.predictions.transform.LayerNorm",
        "bias": "cls.predictions.bias",
    },
    {"dense": "lm_head.dense", "norm": "lm_head.layer_norm", "bias": "lm_head.bias"},
    {"dense": "head.dense", "norm": "head.norm", "bias": "decoder.bias"},
)
"""Names in released checkpoints: BERT and mGTE, RoBERTa and XLM-R, ModernBERT."""


class TokenHead(nn.Module):
    """A linear layer, GELU, a norm, and the transposed word embedding with a bias, in float32.

    Args:
        hidden_size: C.
        vocab_size: V.
    """

    def __init__(self, hidden_size: int, vocab_size: int) -> None:
        super().__init__()
        self.dense = nn.Linear(hidden_size, hidden_size)
        self.norm = nn.LayerNorm(hidden_size, eps=1e-12)
        self.bias = nn.Parameter(torch.zeros(vocab_size))
        nn.init.normal_(self.dense.weight, std=0.02)
        nn.init.zeros_(self.dense.bias)

    def forward(
        self, states: Float[Tensor, "T C"], words: Float[Tensor, "V C"]
    ) -> Float[Tensor, "T V"]:
        """Logits of the states that are given; those of hidden tokens alone are cheaper."""
        mixed = self.norm(functional.gelu(self.dense(states.float())))
        return functional.linear(mixed, words.float(), self.bias)


def open_token_head(folder: Path, backbone: Backbone, tensors: Mapping[str, Tensor]) -> TokenHead:
    """The head that a folder holds, as we or others wrote it; else a new one.

    Args:
        folder: of the model.
        backbone: what the head stands on.
        tensors: all weights of the folder.

    Raises:
        ModelFolderError: ours does not fit the model.
    """
    head = TokenHead(backbone.hidden_size, backbone.vocab_size)
    if (folder / FILE).is_file():
        found = load_file(folder / FILE)
        if {n: v.shape for n, v in found.items()} != {
            n: v.shape for n, v in head.state_dict().items()
        }:
            raise ModelFolderError(f"{FILE} does not fit the model", path=folder)
        head.load_state_dict(found)
        return head
    released = _released(tensors)
    if {n: v.shape for n, v in released.items()} == {
        n: v.shape for n, v in head.state_dict().items()
    }:
        head.load_state_dict({name: value.float() for name, value in released.items()})
    return head


def save_token_head(head: TokenHead, folder: Path) -> None:
    """Put the head beside a model's weights, so that another stage goes on with it."""
    save_tensors(head.state_dict(), folder / FILE)


def _released(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    for names in RELEASED:
        wanted = {
            "dense.weight": f"{names['dense']}.weight",
            "dense.bias": f"{names['dense']}.bias",
            "norm.weight": f"{names['norm']}.weight",
            "norm.bias": f"{names['norm']}.bias",
            "bias": names["bias"],
        }
        found = {ours: tensors[theirs] for ours, theirs in wanted.items() if theirs in tensors}
        if "norm.weight" not in found and f"{names['norm']}.gamma" in tensors:  # 2018's names
            found["norm.weight"] = tensors[f"{names['norm']}.gamma"]
            found["norm.bias"] = tensors[f"{names['norm']}.beta"]
        if len(found) == len(wanted):
            return found
    return {}
