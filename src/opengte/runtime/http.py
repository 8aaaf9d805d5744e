"""Texts -> embeddings from any ``/v1/embeddings`` endpoint: ours, OpenAI's, vLLM's, TEI's, ...

Axes: N texts, D embedding size. What an endpoint does not tell is not made up: without token
counts of its own, ``num_tokens`` splits the reported total by length; without a flag of its own
a truncation cannot be known, so ``truncate`` other than ``end`` is refused.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from opengte.contracts import Progress, TextEncoder
from opengte.errors import ConfigError, EndpointError
from opengte.http_client import Clock, HttpConfig, JsonEndpoint, StatusError
from opengte.records import Embeddings, EmbeddingSpace, Kind, Truncate

_PATH = "/embeddings"
_MAY_FALL = ("auto", "base64")
_PROBE = "opengte asks how long a vector is"


@dataclass(frozen=True, kw_only=True)
class HttpEncoderConfig:
    """An embedding endpoint and the model behind it.

    Attributes:
        http: the endpoint; its url ends before ``/embeddings``.
        model: name of the model, as the endpoint knows it.
        revision: what the model really is; change it when the endpoint changes the model, or
            old and new vectors are taken for one space. Empty = made from url and model.
        query_prompt, document_prompt: put before each side when ``kind`` is given.
        normalised: whether vectors are brought to length 1 when they arrive.
        max_tokens: longest input of the model; for the space's name only.
        matryoshka_dimensions: sizes to which vectors may be cut (and renormalised) here.
        encoding: ``base64`` is a quarter of the bytes; ``auto`` tries it first.
        batch_texts, batch_characters: bounds of one request.
        num_connections: requests under way at once.
        sends_truncate: the endpoint understands ``truncate: none|start|end``, as ours does.
    """

    http: HttpConfig
    model: str
    revision: str = ""
    query_prompt: str = ""
    document_prompt: str = ""
    normalised: bool = True
    max_tokens: int = 512
    matryoshka_dimensions: tuple[int, ...] = ()
    encoding: Literal["auto", "base64", "float"] = "auto"
    batch_texts: int = 64
    batch_characters: int = 200_000
    num_connections: int = 4
    sends_truncate: bool = False

    def __post_init__(self) -> None:
        if not self.model:
            raise ConfigError("the embedding endpoint needs the name of a model")
        for name in ("batch_texts", "batch_characters", "num_connections", "max_tokens"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be >= 1, got {getattr(self, name)}")


class HttpEncoder(TextEncoder):
    """A ``TextEncoder`` whose vectors come over HTTP.

    Args:
        config: endpoint and model.
        clock: time and jitter of the retries.
    """

    def __init__(self, config: HttpEncoderConfig, *, clock: Clock | None = None) -> None:
        self.config = config
        self._endpoint = JsonEndpoint(config.http, clock=clock)
        self._encoding = "base64" if config.encoding == "auto" else config.encoding
        self._space: EmbeddingSpace | None = None

    @property
    def space(self) -> EmbeddingSpace:
        """The space of the vectors; the first look asks the endpoint how long they are."""
        if self._space is None:
            config = self.config
            named = f"{config.http.url.rstrip('/')}\0{config.model}"
            self._space = EmbeddingSpace(
                model=config.model,
                revision=config.revision or hashlib.sha256(named.encode()).hexdigest(),
                pooling="endpoint",
                dimensions=self._request([_PROBE], {}).vectors.shape[1],
                normalised=config.normalised,
                max_tokens=config.max_tokens,
                query_prompt=config.query_prompt,
                document_prompt=config.document_prompt,
                matryoshka_dimensions=config.matryoshka_dimensions,
            )
        return self._space

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
        """Embed ``texts``; see ``TextEncoder.embed``.

        Raises:
            EndpointError: the endpoint refused, did not answer, or gave vectors that cannot be
                used.
        """
        size = self._checked_dimensions(dimensions)
        extra = self._truncate_field(truncate)
        front = self._prompt(kind, prompt)
        # Endpoints refuse an empty text; a space is the nearest thing they take.
        complete = [(front + text) or " " for text in texts]
        parts = self._embed_batches(complete, extra, progress)
        vectors = np.concatenate(
            [np.empty((0, self.space.dimensions), np.float32), *(part.vectors for part in parts)]
        )[:, :size]
        return Embeddings(
            vectors=_unit(vectors) if self.config.normalised else np.ascontiguousarray(vectors),
            num_tokens=np.concatenate([np.empty(0, np.int64), *(p.num_tokens for p in parts)]),
            truncated=np.concatenate([np.empty(0, np.bool_), *(p.truncated for p in parts)]),
        )

    def close(self) -> None:
        """Give the connections back."""
        self._endpoint.close()

    def _embed_batches(
        self, texts: Sequence[str], extra: Mapping[str, Any], progress: Progress | None
    ) -> list[Embeddings]:
        parts: list[Embeddings] = []
        batches = list(self._batches(texts))
        failed = threading.Event()

        def ask(batch: Sequence[str]) -> Embeddings:
            if failed.is_set():
                raise CancelledError
            try:
                return self._checked_width(self._request(batch, extra))
            except BaseException:
                failed.set()
                raise

        done = 0
        with ThreadPoolExecutor(self.config.num_connections) as pool:
            # Batches start in their order, so the first error met here is a real one.
            for batch, part in zip(batches, pool.map(ask, batches), strict=True):
                parts.append(part)
                done += len(batch)
                if progress is not None:
                    progress(done, len(texts))
        return parts

    def _batches(self, texts: Sequence[str]) -> Iterator[Sequence[str]]:
        start, characters = 0, 0
        for end, text in enumerate(texts):
            full = end - start == self.config.batch_texts
            if end > start and (full or characters + len(text) > self.config.batch_characters):
                yield texts[start:end]
                start, characters = end, 0
            characters += len(text)
        if start < len(texts):
            yield texts[start:]

    def _request(self, texts: Sequence[str], extra: Mapping[str, Any]) -> Embeddings:
        payload = {"model": self.config.model, "input": list(texts), **extra}
        num_tokens = sum(map(len, texts)) // 4
        encoding = self._encoding
        try:
            wanted = {**payload, "encoding_format": encoding}
            answer = self._endpoint.post(_PATH, wanted, num_tokens=num_tokens)
        except StatusError as error:
            if error.status not in (400, 422) or (self.config.encoding, encoding) != _MAY_FALL:
                raise
            answer = self._endpoint.post(_PATH, payload, num_tokens=num_tokens)
            self._encoding = "float"  # only now: the refusal may have had another reason
        return self._read(answer, texts)

    def _read(self, answer: Any, texts: Sequence[str]) -> Embeddings:
        rows = answer.get("data") if isinstance(answer, dict) else None
        if not isinstance(rows, list) or len(rows) != len(texts):
            found = len(rows) if isinstance(rows, list) else "no"
            raise self._error(f"gave {found} embeddings for {len(texts)} texts")
        try:
            order = [int(row.get("index", number)) for number, row in enumerate(rows)]
            by_index = dict(zip(order, rows, strict=True))
            ordered = [by_index[number] for number in range(len(texts))]
            vectors = [self._vector(row["embedding"]) for row in ordered]
        except (KeyError, TypeError, ValueError, AttributeError, binascii.Error) as error:
            raise self._error(f"gave embeddings that cannot be read ({error!r})") from error
        if len({vector.shape for vector in vectors}) != 1 or vectors[0].ndim != 1:
            raise self._error("gave embeddings of different lengths")
        stacked = np.stack(vectors)
        if not stacked.shape[1] or not np.isfinite(stacked).all():
            raise self._error("gave embeddings that are empty or not finite")
        if not stacked.any(axis=1).all():
            raise self._error("gave an embedding of zeros")
        return Embeddings(
            vectors=stacked,
            num_tokens=_num_tokens(ordered, answer.get("usage"), texts),
            truncated=np.array([bool(row.get("truncated")) for row in ordered]),
        )

    def _vector(self, embedding: Any) -> NDArray[np.float32]:
        if isinstance(embedding, str):
            content = base64.b64decode(embedding, validate=True)
            return np.frombuffer(content, dtype="<f4").astype(np.float32)
        return np.asarray(embedding, dtype=np.float32)

    def _checked_width(self, part: Embeddings) -> Embeddings:
        expected, found = self.space.dimensions, part.vectors.shape[1]
        if found != expected:
            raise self._error(f"gave vectors of {found} dimensions, but {expected} before")
        return part

    def _checked_dimensions(self, dimensions: int | None) -> int:
        sizes = {*self.config.matryoshka_dimensions, self.space.dimensions}
        if dimensions is None or dimensions in sizes:
            return dimensions or self.space.dimensions
        raise ConfigError(f"dimensions must be one of {sorted(sizes)}, got {dimensions}")

    def _truncate_field(self, truncate: Truncate) -> dict[str, str]:
        if self.config.sends_truncate:
            return {"truncate": truncate}
        if truncate != "end":
            raise ConfigError(
                f"{self._endpoint.name} is not known to obey truncate={truncate!r}; "
                "set sends_truncate if it does"
            )
        return {}

    def _prompt(self, kind: Kind | None, prompt: str | None) -> str:
        if prompt is not None:
            return prompt
        own = {"query": self.config.query_prompt, "document": self.config.document_prompt}
        return own[kind] if kind else ""

    def _error(self, what: str) -> EndpointError:
        return EndpointError(f"{self._endpoint.name}{_PATH} {what}; model {self.config.model!r}")


def _num_tokens(
    rows: Sequence[Mapping[str, Any]], usage: Any, texts: Sequence[str]
) -> NDArray[np.int64]:
    """Tokens of each text where the endpoint says so; else the total, split by length."""
    own = [row.get("num_tokens") for row in rows]
    if all(isinstance(number, int) for number in own):
        return np.array(own, dtype=np.int64)
    total = usage.get("prompt_tokens") if isinstance(usage, dict) else None
    if not isinstance(total, int):
        return np.zeros(len(texts), dtype=np.int64)
    ends = np.cumsum([len(text) for text in texts])
    borders = np.round(total * ends / max(1, int(ends[-1]))).astype(np.int64)
    return np.diff(borders, prepend=0)


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: NDArray[np.float32] = vectors / np.maximum(lengths, np.finfo(np.float32).tiny)
    return unit
