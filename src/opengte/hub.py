"""A hub id -> a local folder: only files that are read, never code, never pickles."""

from __future__ import annotations

from pathlib import Path

from opengte.atomic import storage_errors
from opengte.errors import MissingExtraError, ModelFolderError

ALLOWED_FILES = ("*.json", "*model*.safetensors", "vocab.txt", "merges.txt")
"""Configuration, tokenizer and safetensors; ``*`` reaches into sub-folders."""
IGNORED_FILES = ("*.bin", "*.pt", "*.pkl", "openvino/*", "checkpoint*/*", "runs/*")
GRAPH_FILES = ("onnx/model.onnx", "onnx/model.onnx_data")


def download_model(
    repository: str,
    *,
    revision: str | None = None,
    with_graph: bool = False,
    cache_folder: Path | None = None,
    offline: bool | None = None,
    hint: str = "",
) -> Path:
    """The snapshot of ``repository`` in the hub's cache, fetched where it is not there yet.

    Args:
        repository: ``ORG/NAME``.
        revision: a branch, tag or commit; the main branch where None.
        with_graph: ``onnx/model.onnx`` too.
        cache_folder: the hub's own default where None.
        offline: ask the cache alone; where None, as ``HF_HUB_OFFLINE`` says.
        hint: what else the user may do, for the message.

    Raises:
        MissingExtraError: ``huggingface_hub`` is not installed.
        ModelFolderError: the hub does not have it, does not give it, or cannot be reached.
    """
    try:
        import huggingface_hub
        from huggingface_hub import constants, errors
    except ImportError as error:
        raise MissingExtraError("huggingface_hub", extra="hf") from error
    at = f"{repository}@{revision}" if revision else repository
    try:
        with storage_errors(cache_folder or Path(constants.HF_HUB_CACHE)):
            folder = huggingface_hub.snapshot_download(
                repository,
                revision=revision,
                cache_dir=cache_folder,
                allow_patterns=[*ALLOWED_FILES, *(GRAPH_FILES if with_graph else ())],
                ignore_patterns=list(IGNORED_FILES),
                local_files_only=bool(offline),
            )
    except errors.GatedRepoError as error:
        raise ModelFolderError(
            f"the hub gives {at} only to those who accepted its terms; do so on its page and log "
            "in with 'hf auth login'"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise ModelFolderError(f"the hub has no revision {revision!r} of {repository}") from error
    except errors.RepositoryNotFoundError as error:
        raise ModelFolderError(
            f"no folder and no hub model of the name {at} (a private one needs 'hf auth login')"
        ) from error
    except errors.HFValidationError as error:
        raise ModelFolderError(f"{repository!r} is no folder and cannot be a hub id") from error
    except (errors.LocalEntryNotFoundError, errors.HfHubHTTPError, OSError) as error:
        raise ModelFolderError(
            f"{at} is no local folder, is not in the hub's cache, and the hub cannot be reached; "
            f"give a folder{hint}"
        ) from error
    return Path(folder)
