"""Tests of batches; rankings wait until the test lets them go on."""

import asyncio
import threading
from collections.abc import Awaitable, Callable

import numpy as np
import pytest

from face_lightning.recommending.answers import TopK
from face_lightning.serving.batching import RequestBatcher


class Server:
    """A batcher whose rankings are recorded, and wait until `go` is set."""

    def __init__(self) -> None:
        self.batcher = RequestBatcher()
        self.ranked: list[list[int]] = []
        self.go = threading.Event()

    def rank(self, queries: list[int]) -> TopK:
        self.ranked.append(queries)
        assert self.go.wait(20)
        if -1 in queries:
            raise ValueError("no such query")
        return answer(queries)

    async def ask(self, queries: list[int], kind: str = "users") -> "asyncio.Task[TopK]":
        """Start a request, which is ranked at once if no other one is."""
        task = asyncio.create_task(self.batcher.rank(kind, queries, self.rank))
        await asyncio.sleep(0)
        return task


def answer(queries: list[int]) -> TopK:
    rows = np.array(queries, np.int64)
    return TopK(rows, rows[:, None] + [1, 2], rows[:, None] / [3, 4])


def equal(found: TopK, expected: TopK) -> bool:
    return all(map(np.array_equal, found, expected))


def run(test: Callable[[Server], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(test(Server()), 60))


def test_requests_that_arrive_during_a_ranking_are_ranked_together() -> None:
    async def test(server: Server) -> None:
        requests = [[2], [0], [1], [2, 0], [], [1]]
        tasks = [await server.ask(queries) for queries in requests]
        server.go.set()
        for task, queries in zip(tasks, requests, strict=True):
            assert equal(await task, answer(queries))
        assert server.ranked == [[2], [0, 1, 2, 0, 1]]

    run(test)


def test_two_requests_are_ranked_one_after_the_other() -> None:
    async def test(server: Server) -> None:
        tasks = [await server.ask([number]) for number in range(3)]
        server.go.set()
        assert [(await task).query_ids.tolist() for task in tasks] == [[0], [1], [2]]
        assert server.ranked == [[0], [1], [2]]

    run(test)


def test_requests_of_other_kinds_are_ranked_in_their_turn() -> None:
    async def test(server: Server) -> None:
        await server.ask([0])
        tasks = [await server.ask([number], "users" if number % 2 else "items") for number in range(8)]
        server.go.set()
        assert [(await task).query_ids.tolist() for task in tasks] == [[number] for number in range(8)]
        assert server.ranked == [[0], [0, 2, 4, 6], [1, 3, 5, 7]]

    run(test)


def test_batches_are_bounded_and_large_requests_need_none() -> None:
    async def test(server: Server) -> None:
        await server.ask([0])
        tasks = [await server.ask([number] * 60) for number in range(8)]
        large = await server.ask([9] * 256)
        server.go.set()
        assert [(await task).query_ids.tolist() for task in tasks] == [[number] * 60 for number in range(8)]
        assert len((await large).ids) == 256
        assert sorted(map(len, server.ranked)) == [1, 240, 240, 256]

    run(test)


def test_an_error_is_raised_by_the_requests_of_its_batch_and_no_others() -> None:
    async def test(server: Server) -> None:
        await server.ask([0])
        bad, good = [await server.ask([-number]) for number in range(4)], await server.ask([1], "items")
        server.go.set()
        for task in bad:
            with pytest.raises(ValueError, match="no such query"):
                await task
        assert (await good).query_ids.tolist() == [1]
        assert (await server.batcher.rank("users", [3], answer)).query_ids.tolist() == [3]

    run(test)


def test_requests_that_have_timed_out_are_not_ranked() -> None:
    async def test(server: Server) -> None:
        tasks = [await server.ask([number]) for number in range(4)]
        for late in tasks[0], tasks[2]:  # one is being ranked, and one waits
            late.cancel()
        await asyncio.sleep(0)
        server.go.set()
        assert [(await task).query_ids.tolist() for task in (tasks[1], tasks[3])] == [[1], [3]]
        assert server.ranked == [[0], [1], [3]]

    run(test)
