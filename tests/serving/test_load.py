"""Load test with hostile requests and reloads in between, for FACE_LOAD_SECONDS (30)."""

import http.client
import json
import os
import random
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from scipy.sparse import csr_array

from benchmarks.http_load import wait_for
from face_lightning.runs.inference import write_data, write_embeddings
from face_lightning.structures import Embeddings
from tests.serving.client import Client
from tests.serving.hostile import HOSTILE

ROOT = Path(__file__).resolve().parents[2]
SECONDS = float(os.environ.get("FACE_LOAD_SECONDS", "30"))
NUM_USERS, NUM_ITEMS, DIM = 500, 20_000, 64


def write_run(folder: Path, seed: int) -> Path:
    folder.mkdir()
    generator = torch.Generator().manual_seed(seed)
    seen = csr_array((np.random.default_rng(0).random((NUM_USERS, NUM_ITEMS)) < 0.001).astype(np.float32))
    empty = csr_array((NUM_USERS, NUM_ITEMS), dtype=np.float32)
    ids = np.array([f"u{user}" for user in range(NUM_USERS)]), np.arange(NUM_ITEMS)
    write_data(folder, [seen, empty, empty], ids, None, "f" * 64)
    tables = (torch.randn(rows, DIM, generator=generator) for rows in (NUM_USERS, NUM_ITEMS))
    write_embeddings(folder, Embeddings(*tables), "f" * 64)
    return folder


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[int, psutil.Process, Path]]:
    """Port and process of a server with two workers, and the symbolic link to the run that it serves."""
    link = tmp_path / "current"
    link.symlink_to(write_run(tmp_path / "one", 1))
    write_run(tmp_path / "two", 2)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "face_lightning.cli", "serve", "--run", str(link), "--port", str(port)]
    command += ["--workers", "2", "--watch_seconds", "0.5", "--timeout", "2", "--max_bytes", "20000"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.DEVNULL)
    try:
        wait_for(process, workers=2)
        yield port, psutil.Process(process.pid), link
    finally:
        process.terminate()
        process.wait(timeout=30)


def memory(process: psutil.Process) -> float:
    """Private memory of a server's processes in MiB."""
    return sum(one.memory_full_info().uss for one in process.children(recursive=True)) / 2**20


class Load:
    """Clients that send requests over persistent connections, and the results of their requests."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.done = threading.Event()
        self.num_answers = 0
        self.failures: list[Any] = []
        self.answers: dict[int, set[tuple[str, ...]]] = {user: set() for user in range(5)}
        self.hostile_rounds = 0
        self._lock = threading.Lock()

    def ask(self, seed: int) -> None:
        """Send valid requests over one connection."""
        generator = random.Random(seed)
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        while not self.done.is_set():
            user = generator.randrange(5)
            try:
                body = json.dumps({"users": [f"u{user}"], "k": 10})
                connection.request("POST", "/recommend", body, {"Content-Type": "application/json"})
                response = connection.getresponse()
                content = response.read()
                if response.status != 200:
                    raise OSError(f"status {response.status}")
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(repr(error))
                connection.close()
                continue
            with self._lock:
                self.num_answers += 1
                self.answers[user].add(tuple(json.loads(content)["results"][0]["ids"]))
            time.sleep(0.05)
        connection.close()

    def attack(self) -> None:
        """Send hostile requests, and one that is never completed."""
        client = Client(self.port, None)
        while not self.done.is_set():
            for path, body, expected in HOSTILE:
                status, answer = client.ask("POST", path, body)
                if status != expected or not (expected == 307 or answer["detail"]):
                    self.failures.append((path, body, status, answer))
                time.sleep(0.02)
            slow = client.send(b"POST /recommend HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
            if b" 408 " not in slow:
                self.failures.append(slow)
            self.hostile_rounds += 1


@pytest.mark.slow
@pytest.mark.timeout(SECONDS + 300)
def test_no_request_is_lost_and_memory_does_not_grow(server: tuple[int, psutil.Process, Path]) -> None:
    port, process, link = server
    load = Load(port)
    threads = [threading.Thread(target=load.ask, args=(seed,)) for seed in range(4)]
    threads.append(threading.Thread(target=load.attack))
    for thread in threads:
        thread.start()
    swaps = 0
    samples = []
    started = time.monotonic()
    try:
        while (elapsed := time.monotonic() - started) < SECONDS:
            if elapsed > (swaps + 1) * SECONDS / 6 and swaps < 5:  # swap the two runs
                other = "two" if link.readlink().name == "one" else "one"
                (link.parent / "next").symlink_to(link.parent / other)
                (link.parent / "next").replace(link)
                swaps += 1
            time.sleep(SECONDS / 60)
            samples.append(memory(process))
    finally:
        load.done.set()
        for thread in threads:
            thread.join(timeout=60)
    early, late = (max(part) for part in (samples[20:40], samples[40:]))  # both after two swaps or more
    print(
        f"{load.num_answers} answers, {len(load.failures)} failures, {load.hostile_rounds} rounds of {len(HOSTILE)} "
        f"hostile requests, {swaps} new runs; MiB: {samples[0]:.0f} at first, {early:.0f}, {late:.0f} at most in the "
        "second and last third"
    )
    assert not load.failures, load.failures[:5]
    assert load.num_answers > 10 * SECONDS
    assert load.hostile_rounds > 0
    # each user got the results of both runs, and no others
    assert {len(found) for found in load.answers.values()} == {2}
    assert late < early + 16
