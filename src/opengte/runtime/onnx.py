"""A model folder with an ONNX graph -> embeddings, without torch.

Axes: N texts, B texts of one batch, L tokens of its longest, D embedding size.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from opengte.contracts import Progress, TextEncoder
from opengte.errors import ConfigError, ModelFolderError, OpenGTEError, UserError
from opengte.model_folder import ModelFolder
from opengte.records import Embeddings, EmbeddingSpace, Kind, Truncate
from opengte.runtime.threads import available_cpus
from opengte.text.token_budget import group_by_length
from opengte.text.tokenizer import Tokenizer
from opengte.text.truncation import TokenizedText

if TYPE_CHECKING:
    import onnxruntime

SENTENCE_OUTPUT = "sentence_embedding"
TOKEN_OUTPUTS = ("token_embeddings", "last_hidden_state")
KNOWN_INPUTS = ("input_ids", "attention_mask", "token_type_ids", "position_ids", "pooling_mask")
TOKEN_BUDGET = 1024
"""Tokens of one run, padding included: more fall out of the cache, and the arena grows with it."""
WINDOW_TEXTS = 8192
"""So many texts are tokenised and sorted by length at a time."""


class OnnxEncoder(TextEncoder):
    """A ``TextEncoder`` on ONNX Runtime, processor only.

    A text's vector does not depend on its neighbours beyond rounding (about 1e-7), nor on the
    number of threads.

    Args:
        folder: written by ``export_onnx``, or a sentence-transformers folder with
            ``onnx/model.onnx`` of another tool; pooling it lacks is done here.
        num_threads: the processors this process may use, by default.
        max_tokens: shorter inputs than the folder says.
        token_budget: tokens of one run, padding included.
        verify: compare the files with the SHA-256 written beside them.

    Raises:
        ModelFolderError: no graph, an altered one, or one with unknown inputs or outputs.
        ConfigError: a limit that cannot be.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        num_threads: int | None = None,
        max_tokens: int | None = None,
        token_budget: int = TOKEN_BUDGET,
        verify: bool = True,
    ) -> None:
        if num_threads is not None and num_threads < 1:
            raise ConfigError(f"num_threads must be >= 1, got {num_threads}")
        self.folder = ModelFolder.read(folder)
        if self.folder.onnx_file is None:
            raise ModelFolderError(
                "no model.onnx; write one with opengte.export.onnx.export_onnx", path=folder
            )
        if verify:
            self.folder.verify()
        self.tokenizer = Tokenizer.from_folder(
            self.folder.backbone_path, lower_case=self.folder.lower_case
        )
        self.max_tokens = _checked_length(max_tokens, self.folder, self.tokenizer)
        self.token_budget = token_budget
        self.num_threads = num_threads or available_cpus()
        self.session = _open_session(self.folder.onnx_file, self.num_threads)
        self._inputs = [value.name for value in self.session.get_inputs()]
        self._output = _choose_output(self.session, self.folder)

    @cached_property
    def space(self) -> EmbeddingSpace:
        """The space its vectors live in: that of the model it was exported from."""
        return replace(self.folder.space(), max_tokens=self.max_tokens)

    def embed(
        self,
        texts: Sequence[str],
        *,
        kind: Kind | None = None,
        prompt: str | None = None,
        dimensions: int | None = None,
        truncate: Truncate = "end",
        progress: Progress | None = None,
    ) -> Embeddings:
        """Embed ``texts`` in their order; see ``contracts.TextEncoder.embed``."""
        size = self._checked_dimensions(dimensions)
        front = self.folder.prompts.resolve(kind=kind, prompt=prompt)
        vectors = np.empty((len(texts), size), dtype=np.float32)
        num_tokens = np.empty(len(texts), dtype=np.int64)
        truncated = np.empty(len(texts), dtype=np.bool_)
        for start in range(0, len(texts), WINDOW_TEXTS):
            window = slice(start, min(start + WINDOW_TEXTS, len(texts)))
            tokens = self._tokenize(texts[window], front, kind, truncate, start)
            num_tokens[window] = [len(text) for text in tokens]
            truncated[window] = [text.truncated for text in tokens]
            done = start
            for rows, part in self._run(tokens):
                vectors[window][rows] = self._finish(part, size)
                done += len(rows)
                if progress is not None:
                    progress(done, len(texts))
        _refuse_broken(vectors)
        return Embeddings(vectors, num_tokens, truncated)

    def _tokenize(
        self, texts: Sequence[str], front: str, kind: Kind | None, truncate: Truncate, first: int
    ) -> list[TokenizedText]:
        tokens = self._tokenizer_for(kind).encode(
            [front + text for text in texts],
            max_tokens=self.max_tokens,
            prompt_characters=len(front),
            truncate=truncate,
        )
        for number, text in enumerate(tokens, start=first):
            if len(text) > self.max_tokens:
                raise UserError(
                    f"text {number} has {len(text)} tokens, the model reads {self.max_tokens}; "
                    "shorten it, or let it be cut with truncate='end'"
                )
            if not len(text):
                raise UserError(f"text {number} is empty: there is nothing to embed")
        return tokens

    def _tokenizer_for(self, kind: Kind | None) -> Tokenizer:
        delimiters = self.folder.manifest.get(f"{kind or 'document'}_delimiters")
        return self.tokenizer if delimiters is None else self.tokenizer.with_delimiters(*delimiters)

    def _run(
        self, tokens: Sequence[TokenizedText]
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        """Rows and their vectors (B, D), longest texts first."""
        lengths = [len(text) for text in tokens]
        for rows in group_by_length(lengths, max_tokens=self.token_budget):
            feed = self._pad([tokens[row] for row in rows])
            (result,) = self.session.run([self._output], {k: feed[k] for k in self._inputs})
            yield rows, self._pool(np.asarray(result, dtype=np.float32), feed["pooling_mask"])

    def _pad(self, texts: Sequence[TokenizedText]) -> dict[str, NDArray[np.int64]]:
        """All inputs a graph may ask for, each (B, L)."""
        shape = len(texts), max(len(text) for text in texts)
        ids = np.full(shape, self.tokenizer.pad_id, dtype=np.int64)
        mask, pooled = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.int64)
        for row, text in enumerate(texts):
            ids[row, : len(text)] = text.ids
            mask[row, : len(text)] = 1
            skipped = 0 if self.folder.include_prompt else text.num_prompt_tokens
            pooled[row, skipped : len(text)] = 1
        return {
            "input_ids": ids,
            "attention_mask": mask,
            "pooling_mask": pooled,
            "token_type_ids": np.zeros(shape, dtype=np.int64),
            "position_ids": np.broadcast_to(np.arange(shape[1]), shape),
        }

    def _pool(self, result: NDArray[np.float32], mask: NDArray[np.int64]) -> NDArray[np.float32]:
        if self._output == SENTENCE_OUTPUT:
            return result
        # Only for graphs of other tools: scipy is not worth a cold start otherwise.
        from opengte.runtime import pooling

        vectors = pooling.pool(result, mask, mode=self.folder.pooling)
        for layer in self.folder.dense_layers:
            vectors = pooling.apply_dense(layer, vectors)
        return vectors

    def _finish(self, vectors: NDArray[np.float32], size: int) -> NDArray[np.float32]:
        cut = vectors[:, :size]
        if not self.folder.normalise:
            return cut
        return cut / np.maximum(np.linalg.norm(cut, axis=1, keepdims=True), 1e-12)

    def _checked_dimensions(self, dimensions: int | None) -> int:
        known = (*self.folder.matryoshka_dimensions, self.folder.dimensions)
        if dimensions is not None and dimensions not in known:
            raise UserError(
                f"dimensions must be one the model was trained for "
                f"({', '.join(map(str, sorted(set(known))))}), got {dimensions}"
            )
        return dimensions or self.folder.dimensions


def _checked_length(wanted: int | None, folder: ModelFolder, tokenizer: Tokenizer) -> int:
    low, high = tokenizer.num_special_tokens, folder.max_tokens
    if wanted is not None and not low < wanted <= high:
        raise ConfigError(
            f"max_tokens must be between {low + 1} and the {high} of the folder, got {wanted}"
        )
    return wanted or high


def _open_session(file: Path, num_threads: int) -> onnxruntime.InferenceSession:
    """A session that leaves the machine to others while it waits."""
    try:
        import onnxruntime
    except ImportError as error:
        raise UserError("onnxruntime is not installed; pip install onnxruntime") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Every batch has another shape: patterns would be kept for each, and never used again.
    options.enable_mem_pattern = False
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(
            str(file), sess_options=options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # the C++ side raises a dozen unrelated classes
        reason = str(error).splitlines()[0]
        raise ModelFolderError(f"ONNX Runtime cannot open it: {reason}", path=file) from error


def _choose_output(session: onnxruntime.InferenceSession, folder: ModelFolder) -> str:
    unknown = [value.name for value in session.get_inputs() if value.name not in KNOWN_INPUTS]
    if unknown:
        raise ModelFolderError(
            f"the graph asks for unknown inputs: {', '.join(unknown)}", path=folder.onnx_file
        )
    ranks: dict[str, Any] = {value.name: len(value.shape) for value in session.get_outputs()}
    if ranks.get(SENTENCE_OUTPUT) == 2:
        return SENTENCE_OUTPUT
    for name in TOKEN_OUTPUTS:
        if ranks.get(name) == 3:
            return name
    raise ModelFolderError(
        f"the graph gives {', '.join(ranks)}; expected {SENTENCE_OUTPUT} (N, D) or one of "
        f"{', '.join(TOKEN_OUTPUTS)} (N, L, C)",
        path=folder.onnx_file,
    )


def _refuse_broken(vectors: NDArray[np.float32]) -> None:
    """A vector that is not finite, or zero, is never handed out as an answer."""
    sound = np.isfinite(vectors).all(axis=1) & (vectors != 0).any(axis=1)
    if not sound.all():
        number = int(np.flatnonzero(~sound)[0])
        raise OpenGTEError(f"the model gave no usable vector for text {number}")
