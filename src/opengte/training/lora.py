"""Low-rank adapters beside frozen weights while training, added into them afterwards.

``W x`` becomes ``W x + (alpha / rank) B A x``, of which A and B alone are trained (Hu et al. 2021,
arXiv:2106.09685); the layers are peft's.
"""

from __future__ import annotations

from torch import nn

from opengte.errors import ConfigError, MissingExtraError
from opengte.training.config import LoraConfig


def add_adapters(encoder: nn.Module, config: LoraConfig) -> None:
    """Put an adapter beside each wanted linear layer, in place, and freeze everything else.

    Raises:
        ConfigError: no linear layer has one of the names.
        MissingExtraError: peft is absent.
    """
    try:
        import peft
    except ImportError as error:
        raise MissingExtraError("peft", extra="train") from error
    wanted = _linear_layers(encoder, config.modules)
    if not wanted:
        raise ConfigError(
            f"lora: no linear layer's name ends with one of {list(config.modules)}; "
            f"there are e.g. {_linear_layers(encoder, ())[:3]}"
        )
    settings = peft.LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,  # type: ignore[arg-type]  # a float is fine there
        lora_dropout=config.dropout,
        target_modules=wanted,
    )
    peft.inject_adapter_in_model(settings, encoder)
    for name, parameter in encoder.named_parameters():
        parameter.requires_grad_("lora_" in name)


def merge_adapters(encoder: nn.Module) -> None:
    """Add the adapters into the weights and put the plain layers back."""
    from peft.tuners.lora import LoraLayer

    for path, layer in list(encoder.named_modules()):
        if isinstance(layer, LoraLayer):
            layer.merge()
            parent, _, name = path.rpartition(".")
            setattr(encoder.get_submodule(parent), name, layer.get_base_layer())
    for parameter in encoder.parameters():
        parameter.requires_grad_(True)


def _linear_layers(encoder: nn.Module, endings: tuple[str, ...]) -> list[str]:
    """Names of the backbone's linear layers that end with one of ``endings``; () = all."""
    return [
        name
        for name, module in encoder.named_modules()
        if isinstance(module, nn.Linear)
        and name.startswith("backbone.")
        and (not endings or name.endswith(endings))
    ]
