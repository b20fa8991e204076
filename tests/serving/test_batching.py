import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import pytest

from face_lightning.recommending.answers import TopK
from face_lightning.serving.batching import RequestBatcher


class Server:
    """A batcher whose rankings are recorded, and wait until `go` is set."""

    def __init__(self, pool: ThreadPoolExecutor) -> None:
        self.batcher, self.pool = RequestBatcher(), pool
        self.ranked: list[list[int]] = []
        self.started, self.go = threading.Event(), threading.Event()

    def rank(self, queries: list[int]) -> TopK:
        self.ranked.append(queries)
        self.started.set()
        assert self.go.wait(20)
        if -1 in queries:
            raise ValueError("no such query")
        return answer(queries)

    def ask(self, queries: list[int], kind: str = "users") -> "Future[TopK]":
        """Start a request, and wait until it is ranked or waits to be ranked."""
        count, is_first = len(self.batcher._waiting), not self.started.is_set()
        future = self.pool.submit(self.batcher.rank, kind, queries, self.rank)
        assert self.started.wait(20)
        end = time.monotonic() + 20
        while not is_first and len(self.batcher._waiting) == count:
            assert time.monotonic() < end
            time.sleep(0.001)
        return future


@pytest.fixture
def server() -> Iterator[Server]:
    with ThreadPoolExecutor(16) as pool:
        yield Server(pool)


def answer(queries: list[int]) -> TopK:
    rows = np.array(queries, np.int64)
    return TopK(rows, rows[:, None] + [1, 2], rows[:, None] / [3, 4])


def equal(found: TopK, expected: TopK) -> bool:
    return all(map(np.array_equal, found, expected))


def test_requests_that_arrive_during_a_ranking_are_ranked_together(server: Server) -> None:
    first = server.ask([2])
    requests = [[0], [1], [2, 0], [], [1]]
    later = [server.ask(queries) for queries in requests]
    server.go.set()
    assert equal(first.result(20), answer([2]))
    assert all(equal(one.result(20), answer(queries)) for one, queries in zip(later, requests, strict=True))
    assert server.ranked == [[2], [0, 1, 2, 0, 1]]


def test_two_requests_are_ranked_one_after_the_other(server: Server) -> None:
    later = [server.ask([number]) for number in range(3)][1:]
    server.go.set()
    assert [one.result(20).query_ids.tolist() for one in later] == [[1], [2]]
    assert server.ranked == [[0], [1], [2]]


def test_requests_of_other_kinds_are_ranked_in_their_turn(server: Server) -> None:
    server.ask([0])
    later = [server.ask([number], "users" if number % 2 else "items") for number in range(8)]
    server.go.set()
    assert all(one.result(20).query_ids.tolist() == [number] for number, one in enumerate(later))
    assert server.ranked == [[0], [0, 2, 4, 6], [1, 3, 5, 7]]


def test_batches_are_bounded_and_large_requests_need_none(server: Server) -> None:
    server.ask([0])
    later = [server.ask([number] * 60) for number in range(8)]
    large = server.pool.submit(server.batcher.rank, "users", [9] * 256, server.rank)
    server.go.set()
    assert len(large.result(20).ids) == 256
    assert all(one.result(20).query_ids.tolist() == [number] * 60 for number, one in enumerate(later))
    assert sorted(map(len, server.ranked)) == [1, 240, 240, 256]


def test_an_error_is_raised_by_the_requests_of_its_batch_and_no_others(server: Server) -> None:
    server.ask([0])
    bad, good = [server.ask([-number]) for number in range(4)], server.ask([1], "items")
    server.go.set()
    for one in bad:
        with pytest.raises(ValueError, match="no such query"):
            one.result(20)
    assert good.result(20).query_ids.tolist() == [1]
    assert server.batcher.rank("users", [3], answer).query_ids.tolist() == [3]
