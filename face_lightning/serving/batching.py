"""Rankings for the queries of concurrent requests, computed together."""

import threading
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np

from face_lightning.recommending.answers import TopK

Rank = Callable[[list[Any]], TopK]

_LEAST_REQUESTS = 3  # fewer are answered one after the other, as the search for a single query is faster
_MOST_QUERIES = 256  # in a batch


class _Request:
    """A request.

    Attributes:
        kind: Requests of equal kinds can be ranked together.
        queries: Original ids.
        rank: Ranks queries of this kind.
        answer: The answer, or the error of its batch; None until there is one.
        is_next: Set if there is an answer, or if it is this request's turn to rank the next batch.
    """

    def __init__(self, kind: Hashable, queries: Sequence[Any], rank: Rank) -> None:
        self.kind, self.queries, self.rank = kind, queries, rank
        self.answer: TopK | Exception | None = None
        self.is_next = threading.Event()


class RequestBatcher:
    """Answers concurrent requests in batches: one pass over the table of items ranks them for all queries of a batch.

    A request that arrives while a batch is ranked waits for it, and belongs to one of the next batches. No request
    waits for others to arrive.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: list[_Request] = []
        self._is_ranking = False

    def rank(self, kind: Hashable, queries: Sequence[Any], rank: Rank) -> TopK:
        """Rank for the queries of a request; called by the thread of each request.

        Args:
            kind: What determines the answer besides the queries.
            queries: Original ids, known to be valid: an error would be raised by all requests of the batch.
            rank: Ranks queries, each independently of the others.
        """
        if len(queries) >= _MOST_QUERIES:
            return rank(list(queries))
        request = _Request(kind, queries, rank)
        with self._lock:
            self._waiting.append(request)
            must_wait, self._is_ranking = self._is_ranking, True
        if must_wait:
            request.is_next.wait()
        if request.answer is None:
            _answer(self._next_batch())
            self._pass_on()
        if isinstance(request.answer, Exception):
            raise request.answer
        assert request.answer is not None  # a request that ranks a batch is the first of it
        return request.answer

    def _next_batch(self) -> list[_Request]:
        """Remove from the list the first request and those of its kind."""
        batch: list[_Request] = []
        others: list[_Request] = []
        num_queries = 0
        with self._lock:
            for request in self._waiting:
                if request.kind == self._waiting[0].kind and num_queries + len(request.queries) <= _MOST_QUERIES:
                    batch.append(request)
                    num_queries += len(request.queries)
                else:
                    others.append(request)
            self._waiting = others
        return batch

    def _pass_on(self) -> None:
        """Let the first request that waits rank the next batch."""
        with self._lock:
            self._is_ranking = bool(self._waiting)
            if self._waiting:
                self._waiting[0].is_next.set()


def _answer(batch: list[_Request]) -> None:
    """Set the answers of requests of one kind."""
    for group in [batch] if len(batch) >= _LEAST_REQUESTS else [[request] for request in batch]:
        answers: list[TopK | Exception]
        try:
            top = group[0].rank([query for request in group for query in request.queries])
        except Exception as error:
            answers = [error] * len(group)  # raised by the thread of each request
        else:
            ends = np.cumsum([len(request.queries) for request in group])[:-1]
            answers = [TopK(*rows) for rows in zip(*(np.split(column, ends) for column in top), strict=True)]
        for request, answer in zip(group, answers, strict=True):
            request.answer = answer
            request.is_next.set()
