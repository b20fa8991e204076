"""Rankings for the queries of concurrent requests, computed together."""

import asyncio
from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from face_lightning.recommending.answers import Ids, TopK

Rank = Callable[[Any], TopK]  # of a sequence of original ids

_LEAST_REQUESTS = 3  # fewer are answered one after the other, as the search for a single query is faster
_MOST_QUERIES = 256  # in a batch


class _Request(NamedTuple):
    """A request.

    Attributes:
        kind: Requests of equal kinds can be ranked together.
        queries: Original ids.
        rank: Ranks queries of this kind.
        answer: Receives the answer, or the error of the batch.
    """

    kind: Hashable
    queries: Ids
    rank: Rank
    answer: "asyncio.Future[TopK]"


class RequestBatcher:
    """Answers concurrent requests in batches: one pass over the table of items ranks them for all queries of a batch.

    A request that arrives while a batch is ranked waits for it, and belongs to one of the next batches. No request
    waits for others to arrive. A thread ranks, so that the event loop can serve other requests.
    """

    def __init__(self) -> None:
        self._waiting: list[_Request] = []
        self._is_ranking = False
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ranking")

    async def rank(self, kind: Hashable, queries: Ids, rank: Rank) -> TopK:
        """Rank for the queries of a request.

        Args:
            kind: What determines the answer besides the queries.
            queries: Original ids, known to be valid: an error would be raised by all requests of the batch.
            rank: Ranks queries, each independently of the others; called in a thread.
        """
        loop = asyncio.get_running_loop()
        if len(queries) >= _MOST_QUERIES:
            return await loop.run_in_executor(None, rank, queries)
        request = _Request(kind, queries, rank, loop.create_future())
        self._waiting.append(request)
        if not self._is_ranking:
            self._rank_next()
        return await request.answer

    def _rank_next(self) -> None:
        """Start to rank the next batch, if requests wait."""
        batch = self._next_batch()
        self._is_ranking = bool(batch)
        if batch:
            ranking = asyncio.get_running_loop().run_in_executor(self._thread, _answers, batch)
            ranking.add_done_callback(partial(self._finish, batch))

    def _next_batch(self) -> list[_Request]:
        """Remove from the list the first request and those of its kind."""
        batch: list[_Request] = []
        others: list[_Request] = []
        num_queries = 0
        for request in self._waiting:
            if request.answer.cancelled():  # timed out
                continue
            if (not batch or request.kind == batch[0].kind) and num_queries + len(request.queries) <= _MOST_QUERIES:
                batch.append(request)
                num_queries += len(request.queries)
            else:
                others.append(request)
        self._waiting = others
        return batch

    def _finish(self, batch: list[_Request], ranking: "asyncio.Future[list[TopK | Exception]]") -> None:
        """Answer the requests of a batch, and rank the next one."""
        for request, answer in zip(batch, ranking.result(), strict=True):
            if request.answer.cancelled():
                continue
            if isinstance(answer, Exception):
                request.answer.set_exception(answer)
            else:
                request.answer.set_result(answer)
        self._rank_next()


def _answers(batch: list[_Request]) -> list[TopK | Exception]:
    """Answers of requests of one kind."""
    answers: list[TopK | Exception] = []
    for group in [batch] if len(batch) >= _LEAST_REQUESTS else [[request] for request in batch]:
        try:
            top = group[0].rank([query for request in group for query in request.queries])
        except Exception as error:
            answers += [error] * len(group)
        else:
            ends = np.cumsum([len(request.queries) for request in group])[:-1]
            answers += [TopK(*rows) for rows in zip(*(np.split(column, ends) for column in top), strict=True)]
    return answers
