"""The backbones we build: which transformers model each ``model_type`` stands for.

An allow-list: what is not named here is refused, so that a folder decides on sizes alone and
never on code.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from opengte.errors import ModelFolderError
from opengte.models import mgte, nomic

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

OWN_TYPES = ("bert", "roberta", "xlm-roberta", "camembert")
"""Types that ``PackedBert`` implements."""


@dataclass(frozen=True)
class Architecture:
    """How one model type is built by transformers.

    Attributes:
        config: name of its config class.
        model: name of its model class, without any head.
        direction: ``encoder``: every token sees all; ``decoder``: those before it, unless
            ``is_causal`` in its config is false.
        takes_positions: whether its forward pass takes ``position_ids``.
        options: further arguments of the model class.
    """

    config: str
    model: str
    direction: Literal["encoder", "decoder"]
    takes_positions: bool = True
    options: Mapping[str, Any] | None = None


NO_POOLER = {"add_pooling_layer": False}
ARCHITECTURES: Mapping[str, Architecture] = {
    "bert": Architecture("BertConfig", "BertModel", "encoder", options=NO_POOLER),
    "roberta": Architecture("RobertaConfig", "RobertaModel", "encoder", options=NO_POOLER),
    "xlm-roberta": Architecture(
        "XLMRobertaConfig", "XLMRobertaModel", "encoder", options=NO_POOLER
    ),
    "camembert": Architecture("CamembertConfig", "CamembertModel", "encoder", options=NO_POOLER),
    "distilbert": Architecture("DistilBertConfig", "DistilBertModel", "encoder"),
    "gte": Architecture("GteConfig", "GteModel", "encoder", options=NO_POOLER),
    "modernbert": Architecture("ModernBertConfig", "ModernBertModel", "encoder"),
    "eurobert": Architecture("EuroBertConfig", "EuroBertModel", "encoder"),
    "nomic_bert": Architecture("NomicBertConfig", "NomicBertModel", "encoder", options=NO_POOLER),
    "t5": Architecture("T5Config", "T5EncoderModel", "encoder", takes_positions=False),
    "mt5": Architecture("MT5Config", "MT5EncoderModel", "encoder", takes_positions=False),
    "qwen2": Architecture("Qwen2Config", "Qwen2Model", "decoder"),
    "qwen3": Architecture("Qwen3Config", "Qwen3Model", "decoder"),
    "mistral": Architecture("MistralConfig", "MistralModel", "decoder"),
    "llama": Architecture("LlamaConfig", "LlamaModel", "decoder"),
}
DROPPED_KEYS = (
    "auto_map",
    "attn_implementation",
    "_attn_implementation",
    "_attn_implementation_internal",
    "experts_implementation",
    "_experts_implementation",
    "use_kernels",
)
"""Keys of a config that could make transformers fetch or run something."""


def architecture_of(config: Mapping[str, Any]) -> Architecture:
    """The architecture of a ``config.json``.

    Raises:
        ModelFolderError: its ``model_type`` is not one we build.
    """
    name = str(config.get("model_type"))
    if name not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        raise ModelFolderError(f"unknown architecture {name!r}; known: {known}")
    return ARCHITECTURES[name]


def clean_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """A config without what could run code, with old names rewritten to those of transformers."""
    kept = {name: value for name, value in config.items() if name not in DROPPED_KEYS}
    if kept.get("model_type") == "new":
        return mgte.rewrite_config(kept)
    if kept.get("model_type") == "nomic_bert" and nomic.is_released_form(kept):
        return nomic.rewrite_config(kept)
    return kept


def is_causal(config: Mapping[str, Any]) -> bool:
    """Whether tokens see only those before them."""
    decoder = architecture_of(config).direction == "decoder"
    return decoder and config.get("is_causal") is not False


def transformers_config(config: Mapping[str, Any]) -> PreTrainedConfig:
    """Transformers' config object of a cleaned config."""
    import transformers

    made: PreTrainedConfig = getattr(transformers, architecture_of(config).config).from_dict(
        dict(config)
    )
    return made


def transformers_class(config: Mapping[str, Any]) -> type[PreTrainedModel]:
    """Transformers' model class of a cleaned config."""
    import transformers

    found: type[PreTrainedModel] = getattr(transformers, architecture_of(config).model)
    return found
