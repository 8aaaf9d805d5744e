"""A decoder that answers yes or no -> a score: Qwen3-Reranker on packed tokens.

Axes: N pairs, T tokens, C hidden size.

Qwen3-Embedding (Zhang et al. 2025, arXiv:2506.05176, 3.2): query and document stand in a chat that
asks whether the document meets the query; the score is the probability of ``yes`` against ``no``
as the next token. As in the released code that is a softmax over the two *logits*; the paper's
formula takes it over probabilities.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor, nn

from opengte.contracts import Progress
from opengte.errors import ConfigError
from opengte.models.backbone import Backbone
from opengte.models.packing import PackedTokens, pack
from opengte.models.pooling import pool
from opengte.models.precision import resolve_dtype
from opengte.text.token_budget import group_by_length
from opengte.text.tokenizer import Tokenizer
from opengte.text.truncation import TokenizedText

TOKEN_BUDGET = 2048
DEFAULT_INSTRUCTION = "Given a web search query, retrieve relevant passages that answer the query"


@dataclass(frozen=True, kw_only=True)
class YesNoPrompt:
    """The chat around a pair, word for word as Qwen3-Reranker was trained with it.

    Attributes:
        before: the system turn and the beginning of the user's.
        pair: the user turn, with ``{instruction}``, ``{query}`` and ``{document}``.
        after: the end of the user turn, and an assistant turn opened with an empty thought.
        yes, no: the two answers, each one token.
    """

    before: str = (
        "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query "
        'and the Instruct provided. Note that the answer can only be "yes" or "no".<|im_end|>\n'
        "<|im_start|>user\n"
    )
    pair: str = "<Instruct>: {instruction}\n<Query>: {query}\n<Document>: {document}"
    after: str = "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
    yes: str = "yes"
    no: str = "no"


class YesNoReranker(nn.Module):
    """A reranker that can be trained; satisfies ``contracts.Reranker``.

    Args:
        backbone: a causal decoder.
        tokenizer: of its vocabulary.
        output_rows: (2, C) rows of the output embedding for no and yes; None where it is tied to
            the word embedding, whose rows are used.
        prompt: the chat around a pair.
        instruction: the task; English, whatever the texts are in.
        max_tokens: longest chat; the pair is cut at its end, the chat never.
        compute_dtype: ``auto``, ``float32`` or ``bfloat16``.

    Raises:
        ConfigError: an answer is not one token, or no room is left for the pair.
    """

    def __init__(
        self,
        backbone: Backbone,
        tokenizer: Tokenizer,
        *,
        output_rows: Float[Tensor, "2 C"] | None = None,
        prompt: YesNoPrompt | None = None,
        instruction: str = DEFAULT_INSTRUCTION,
        max_tokens: int = 8192,
        compute_dtype: str = "auto",
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.tokenizer = tokenizer.with_delimiters((), ())
        self.original_tokenizer = tokenizer
        self.output_rows = None if output_rows is None else nn.Parameter(output_rows.float())
        self.prompt = prompt or YesNoPrompt()
        self.instruction = instruction
        self.max_tokens = min(max_tokens, backbone.num_positions)
        self.compute_dtype = compute_dtype
        self.answer_ids = [self._one_token(word) for word in (self.prompt.no, self.prompt.yes)]
        self._before, self._after = (
            self._ids(text) for text in (self.prompt.before, self.prompt.after)
        )
        if self.max_tokens <= len(self._before) + len(self._after):
            raise ConfigError(
                f"max_tokens {self.max_tokens} leaves no room: the chat around a pair alone has "
                f"{len(self._before) + len(self._after)} tokens"
            )
        self.eval()

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    def tokenize(
        self, pairs: Sequence[tuple[str, str]], *, instruction: str | None = None
    ) -> list[TokenizedText]:
        """The chats of (query, document) pairs, as token ids."""
        task = self.instruction if instruction is None else instruction
        texts = [
            self.prompt.pair.format(instruction=task, query=query, document=document)
            for query, document in pairs
        ]
        room = self.max_tokens - len(self._before) - len(self._after)
        bodies = self.tokenizer.encode(texts, max_tokens=room)
        return [
            TokenizedText(np.concatenate([self._before, body.ids, self._after]), 0, body.truncated)
            for body in bodies
        ]

    def pack(self, texts: Sequence[TokenizedText]) -> PackedTokens:
        """Lay tokenised chats one behind the other, on the model's device."""
        return pack(texts).to(self.device)

    def forward(self, packed: PackedTokens) -> Float[Tensor, "N 2"]:
        """Logits of no and yes as the next token; differentiable.

        Training takes the cross-entropy of these two with the label (the paper's SFT loss).
        """
        self.backbone.compute_dtype = resolve_dtype(self.compute_dtype, self.device)
        last = pool(self.backbone(packed), packed, mode="last_token")
        if self.output_rows is not None:
            return last @ self.output_rows.t()
        return last @ self.backbone.word_embedding.weight[self.answer_ids].float().t()

    def score(
        self, query: str, documents: Sequence[str], *, progress: Progress | None = None
    ) -> NDArray[np.float32]:
        """(N,): the probability of yes for each document, in [0, 1]."""
        tokens = self.tokenize([(query, document) for document in documents])
        scores = np.zeros(len(documents), dtype=np.float32)
        was_training = self.training
        self.eval()
        done = 0
        with torch.no_grad():
            for rows in group_by_length([len(t) for t in tokens], max_tokens=TOKEN_BUDGET):
                packed = pack([tokens[i] for i in rows]).to(self.device)
                scores[rows] = self(packed).softmax(-1)[:, 1].cpu().numpy()
                done += len(rows)
                if progress is not None:
                    progress(done, len(documents))
        self.train(was_training)
        return scores

    def _ids(self, text: str) -> NDArray[np.int32]:
        return self.tokenizer.encode([text], max_tokens=1 << 20)[0].ids

    def _one_token(self, word: str) -> int:
        ids = self._ids(word)
        if len(ids) != 1:
            raise ConfigError(f"the answer {word!r} must be one token, it is {len(ids)}")
        return int(ids[0])
