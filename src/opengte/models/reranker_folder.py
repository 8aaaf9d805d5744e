"""Yes-or-no rerankers <-> folders, in the layout of transformers' language models."""

from __future__ import annotations

from pathlib import Path

import torch

from opengte.atomic import atomic_folder, write_json
from opengte.errors import ModelFolderError
from opengte.model_folder import MANIFEST, ModelFolder, file_digest
from opengte.models.architectures import architecture_of, clean_config, is_causal
from opengte.models.building import build_backbone
from opengte.models.folder_writer import save_tensors
from opengte.models.reranker import DEFAULT_INSTRUCTION, YesNoPrompt, YesNoReranker
from opengte.models.weights import load_tensors
from opengte.text.tokenizer import Tokenizer

OUTPUT = "lm_head.weight"
BACKBONE_PREFIX = "model."


def load_yes_no_reranker(
    path: str | Path,
    *,
    prompt: YesNoPrompt | None = None,
    instruction: str = DEFAULT_INSTRUCTION,
    max_tokens: int = 8192,
    dtype: str = "auto",
    device: str | torch.device = "cpu",
) -> YesNoReranker:
    """Read a reranker from a language model's folder.

    Args:
        path: the folder: a decoder, with ``lm_head`` where it is not tied to the word embedding.
        prompt: the chat around a pair; Qwen3-Reranker's by default.
        instruction: the task.
        max_tokens: longest chat.
        dtype: number format of activations.
        device: where to put the weights.

    Raises:
        ModelFolderError: it is no causal decoder, or something is missing, damaged or unknown.
    """
    folder = ModelFolder.read(path)
    folder.verify()
    config = clean_config(folder.architecture)
    if architecture_of(config).direction != "decoder" or not is_causal(config):
        raise ModelFolderError(
            f"a yes-or-no reranker needs a causal decoder, found {config['model_type']!r}",
            path=path,
        )
    tensors = load_tensors(folder)
    output = tensors.get(OUTPUT)
    tied = bool(config.get("tie_word_embeddings", False))
    if output is None and not tied:
        raise ModelFolderError(f"weights are missing: {OUTPUT}", path=path)
    try:
        backbone = build_backbone(config, tensors)
    except ModelFolderError as error:
        raise ModelFolderError(error.message, path=path) from error
    reranker = YesNoReranker(
        backbone,
        Tokenizer.from_folder(folder.backbone_path),
        prompt=prompt,
        instruction=instruction,
        max_tokens=max_tokens,
        compute_dtype=dtype,
        output_rows=None if tied or output is None else output[:2],
    )
    if reranker.output_rows is not None and output is not None:
        with torch.no_grad():
            reranker.output_rows.copy_(output[reranker.answer_ids])
        backbone.carried[OUTPUT] = output
    return reranker.to(device)


def save_yes_no_reranker(model: YesNoReranker, folder: str | Path) -> None:
    """Write a reranker as transformers' language model, in one step.

    With an output embedding of its own, all of its rows are kept and the two answers' replaced.
    """
    backbone = model.backbone
    state = backbone.state_dict()  # type: ignore[attr-defined]
    tensors = {BACKBONE_PREFIX + n: v for n, v in backbone.to_checkpoint(state).items()}
    if model.output_rows is not None:
        output = backbone.carried[OUTPUT].clone().float()
        output[model.answer_ids] = model.output_rows.detach().cpu()
        tensors[OUTPUT] = output
    name = architecture_of(backbone.config).model.replace("Model", "ForCausalLM")
    with atomic_folder(folder) as target:
        save_tensors(tensors, target / "model.safetensors")
        write_json(target / "config.json", {**backbone.config, "architectures": [name]})
        model.original_tokenizer.save(target)
        digest = file_digest(target / "model.safetensors").hex()
        write_json(target / MANIFEST, {"format": 1, "sha256": {"model.safetensors": digest}})
