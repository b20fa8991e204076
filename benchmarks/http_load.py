"""A closed loop of HTTP clients, and the `face serve` process that they query."""

import asyncio
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil  # type: ignore[import-untyped]


def clients(port: int, connections: int, num_users: int, top_k: int, seconds: float) -> tuple[list[float], float]:
    """Query over several connections at once for `seconds`; each sends its next request after the answer.

    Returns:
        Seconds of each request, and seconds until the last answer.
    """
    import aiohttp

    async def ask(session: aiohttp.ClientSession, number: int, end: float, times: list[float]) -> None:
        generator = np.random.default_rng(number)
        while (start := time.perf_counter()) < end:
            question = {"users": [str(generator.integers(num_users))], "k": top_k}
            async with session.post(f"http://127.0.0.1:{port}/recommend", json=question) as response:
                await response.read()
                response.raise_for_status()
            times.append(time.perf_counter() - start)

    async def run() -> tuple[list[float], float]:
        times: list[float] = []
        elapsed = 0.0
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
            for length in (1.0, seconds):  # warm-up, not measured
                times.clear()
                start = time.perf_counter()
                await asyncio.gather(*(ask(session, number, start + length, times) for number in range(connections)))
                elapsed = time.perf_counter() - start
        return times, elapsed

    return asyncio.run(run())


def start_server(run: Path, index: str, recall: float, cores: int) -> tuple[subprocess.Popen[bytes], int]:
    """Start `face serve` with one worker per core and one thread per worker."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    command = [sys.executable, "-m", "face_lightning.cli", "serve", "--run", str(run), "--port", str(port)]
    command += ["--workers", str(cores), "--index", index, "--recall", str(recall), "--watch_seconds", "0"]
    return subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"}), port


def wait_for(server: subprocess.Popen[bytes], workers: int) -> None:
    """Wait until all workers listen."""
    while server.poll() is None:
        sockets = (one for process in _processes(server) for one in process.net_connections())
        if sum(one.status == psutil.CONN_LISTEN for one in sockets) == workers:
            return
        time.sleep(0.2)
    raise SystemExit("face serve has ended")


def resident_mib(server: subprocess.Popen[bytes]) -> float:
    """Private memory of the server's processes in MiB."""
    return float(sum(one.memory_full_info().uss for one in _processes(server)) / 2**20)


def _processes(server: subprocess.Popen[bytes]) -> list[psutil.Process]:
    parent = psutil.Process(server.pid)
    return [parent, *parent.children(recursive=True)]
