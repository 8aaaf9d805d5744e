"""A backbone with a head that guesses hidden tokens.

Axes: T tokens, H hidden tokens, V vocabulary.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from opengte.models.backbone import Backbone
from opengte.models.packing import PackedTokens
from opengte.models.precision import resolve_dtype
from opengte.models.token_head import TokenHead


class MaskedLanguageModel(nn.Module):
    """What the ``mlm`` stage trains.

    Args:
        backbone: packed tokens -> token states; afterwards it is what is kept.
        head: token states -> logits.
        compute_dtype: ``auto``, ``float32`` or ``bfloat16``.
    """

    def __init__(self, backbone: Backbone, head: TokenHead, *, compute_dtype: str = "auto") -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.compute_dtype = compute_dtype

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    def token_states(self, packed: PackedTokens) -> Float[Tensor, "T C"]:
        """The backbone's last states of all tokens; differentiable."""
        self.backbone.compute_dtype = resolve_dtype(self.compute_dtype, self.device)
        return self.backbone(packed)

    def forward(self, packed: PackedTokens, hidden: Int64[Tensor, " H"]) -> Float[Tensor, "H V"]:
        """Logits of the tokens at the places ``hidden`` of the packed row."""
        states = self.token_states(packed)[hidden]
        logits: Tensor = self.head(states, self.backbone.word_embedding.weight)
        return logits
