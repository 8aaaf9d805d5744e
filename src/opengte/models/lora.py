"""Low-rank adapters on an encoder's linear layers, and their merge into the weights.

LoRA (Hu et al. 2021): W x + (alpha / r) B A x with B = 0 at the start. E5-mistral, NV-Embed and
Linq-Embed train rank 16 on every linear layer of the backbone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from opengte.errors import ConfigError
from opengte.models.encoder import Encoder


@dataclass(frozen=True, kw_only=True)
class LoraSettings:
    """Size of the adapters.

    Attributes:
        rank: r; 16 in E5-mistral, NV-Embed and Linq-Embed.
        alpha: scale of the product over r; 32 in NV-Embed and Linq-Embed.
        dropout: of the adapters' inputs; 0.1 in NV-Embed.
        targets: last parts of the names of layers to adapt; empty: every linear layer of the
            backbone.

    Raises:
        ConfigError: a value that cannot be.
    """

    rank: int = 16
    alpha: float = 32.0
    dropout: float = 0.1
    targets: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise ConfigError(f"rank must be >= 1, got {self.rank}")
        if not 0.0 <= self.dropout < 1.0:
            raise ConfigError(f"dropout must be in [0, 1), got {self.dropout}")


def add_lora(encoder: Encoder, settings: LoraSettings, *, seed: int = 0) -> list[str]:
    """Freeze an encoder's backbone and put trainable adapters beside its linear layers.

    Args:
        encoder: changed in place; its vectors stay the same until the adapters learn.
        settings: size of the adapters.
        seed: of their random first factor; the global generator is left as it was.

    Returns:
        Names of the adapted layers.

    Raises:
        ConfigError: no layer has one of the names in ``targets``.
    """
    import torch
    from peft import LoraConfig, inject_adapter_in_model

    names = lora_targets(encoder, settings.targets)
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,  # type: ignore[arg-type]
        lora_dropout=settings.dropout,
        target_modules=[name.removeprefix("backbone.") for name in names],
        bias="none",
    )
    backbone = encoder.backbone
    assert isinstance(backbone, nn.Module)
    backbone.requires_grad_(False)
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        inject_adapter_in_model(config, backbone)
    return names


def merge_lora(encoder: Encoder) -> int:
    """Add every adapter's product to its layer's weights and take the adapters away.

    Returns:
        The number of adapters that were merged; parameters learn again where there were some.
    """
    from peft.tuners.lora import LoraLayer

    adapted = [(n, m) for n, m in encoder.named_modules() if isinstance(m, LoraLayer)]
    for name, layer in adapted:
        layer.merge()
        parent, _, attribute = name.rpartition(".")
        setattr(encoder.get_submodule(parent), attribute, layer.get_base_layer())
    if adapted:
        encoder.requires_grad_(True)
    return len(adapted)


def lora_targets(encoder: Encoder, targets: Sequence[str]) -> list[str]:
    """Names of the backbone's linear layers whose last part is in ``targets``; all by default."""
    names = [
        name
        for name, module in encoder.named_modules()
        if name.startswith("backbone.")
        and isinstance(module, nn.Linear)
        and (not targets or name.rpartition(".")[2] in targets)
    ]
    if not names:
        raise ConfigError(f"no linear layer of the backbone is named {', '.join(targets)}")
    return names
