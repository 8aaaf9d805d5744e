"""Planned pieces of work -> records in the journal, asked for by several threads, kept by one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any

from opengte.contracts import ChatModel, Progress
from opengte.errors import EndpointError
from opengte.llm import AnswerError, BudgetSpentError
from opengte.records import Document
from opengte.synthesis.config import SynthesisConfig
from opengte.synthesis.drafts import Item, Method
from opengte.synthesis.journal import Journal


class Work:
    """The pieces of work of one run, done by several threads, kept by one."""

    def __init__(
        self,
        method: Method,
        documents: Sequence[Document],
        journal: Journal,
        config: SynthesisConfig,
        *,
        retry_failed: bool,
    ) -> None:
        self._method = method
        self._documents = documents
        self._journal = journal
        self._config = config
        self._again = {
            key for key, record in journal.records.items() if retry_failed and "failed" in record
        }
        self._failed_in_a_row = 0
        self.items: list[Item] = []

    def do(self, chat: ChatModel, progress: Progress | None) -> str:
        """Do everything that is left; says why, where it stopped early."""
        while True:
            self.items = _distinct(self._method.plan(self._documents, self._journal.records))
            left = [item for item in self.items if self._is_left(item)]
            if not left:
                return ""
            try:
                self._do_all(left, chat, progress)
            except BudgetSpentError as error:
                return error.message
            except EndpointError as error:
                done = len(self.items) - sum(map(self._is_left, self.items))
                raise EndpointError(
                    f"{error.message}; {done} of {len(self.items)} pieces of work are kept, "
                    "the same command goes on"
                ) from error

    def _is_left(self, item: Item) -> bool:
        return item.key not in self._journal.records or item.key in self._again

    def _do_all(self, left: Sequence[Item], chat: ChatModel, progress: Progress | None) -> None:
        total = len(self.items)
        done = total - len(left)
        waiting = iter(left)
        under_way: dict[Future[dict[str, Any]], Item] = {}
        with ThreadPoolExecutor(self._config.num_workers) as pool:
            try:
                self._start(pool, chat, waiting, under_way)
                while under_way:
                    finished, _ = wait(under_way, return_when=FIRST_COMPLETED)
                    for future in finished:
                        self._keep(under_way.pop(future), future)
                        done += 1
                        if progress is not None:
                            progress(done, total)
                    self._start(pool, chat, waiting, under_way)
            finally:
                # What is under way has been paid for: keep it, whatever ended the run.
                self._keep_rest(under_way)

    def _start(
        self,
        pool: ThreadPoolExecutor,
        chat: ChatModel,
        waiting: Iterator[Item],
        under_way: dict[Future[dict[str, Any]], Item],
    ) -> None:
        while len(under_way) < self._config.num_workers:
            item = next(waiting, None)
            if item is None:
                return
            under_way[pool.submit(item.make, chat)] = item

    def _keep(self, item: Item, future: Future[dict[str, Any]]) -> None:
        try:
            record = future.result()
            self._failed_in_a_row = 0
        except AnswerError as error:
            record = {"failed": error.message}
            self._failed_in_a_row += 1
        self._journal.append(item.key, record)
        self._again.discard(item.key)
        if self._failed_in_a_row >= self._config.max_failures_in_a_row:
            raise EndpointError(
                f"{self._failed_in_a_row} answers in a row could not be used; the last time: "
                f"{record['failed']}"
            )

    def _keep_rest(self, under_way: Mapping[Future[dict[str, Any]], Item]) -> None:
        for future, item in under_way.items():
            if future.exception() is None:
                self._journal.append(item.key, future.result())


def _distinct(items: Sequence[Item]) -> list[Item]:
    return list({item.key: item for item in reversed(items)}.values())[::-1]
