"""Tests of the server writer against `transformers serve` with SmolLM2."""

import importlib.util
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from face_lightning.text.writing.client import ChatClient
from face_lightning.text.writing.prompts import Prompts
from face_lightning.text.writing.run import write_summaries
from face_lightning.text.writing.server import ServerWriter
from face_lightning.text.writing.writer import Request

SMOLLM2 = Path("~/.cache/face_lightning/models/SmolLM2-135M-Instruct").expanduser()
LACKING = [name for name in ("accelerate", "fastapi", "uvicorn", "openai") if importlib.util.find_spec(name) is None]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not SMOLLM2.is_dir(), reason="needs SmolLM2: python -m benchmarks.smollm2"),
    pytest.mark.skipif(bool(LACKING), reason="needs a server: pip install 'face-lightning[serving]'"),
]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = tmp_path_factory.mktemp("server") / "log"
    command = [str(Path(sys.executable).with_name("transformers")), "serve", str(SMOLLM2), "--device", "cpu"]
    with log.open("w") as file:
        server = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port)], stdout=file, stderr=subprocess.STDOUT
        )
    try:
        deadline = time.monotonic() + 240
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2).close()
                break
            except (urllib.error.URLError, OSError):
                assert server.poll() is None, log.read_text()[-2000:]
                assert time.monotonic() < deadline, log.read_text()[-2000:]
                time.sleep(0.5)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        server.kill()
        server.wait()


def test_smollm2_writes_through_its_server(url: str, tmp_path: Path) -> None:
    films = [
        Request("item", "1", {"title": "Jaws", "tags": ["Thriller"], "profile": "A shark near a seaside town."}),
        Request("item", "2", {"title": "Emma", "tags": ["Romance"], "profile": "A young woman makes matches."}),
    ]
    client = ChatClient(url, timeout=300, retries=2, backoff=0.1)
    writer = ServerWriter(Prompts("movie", "text"), client, url, str(SMOLLM2), concurrency=2, max_tokens=60)
    outcome = write_summaries(writer, films, tmp_path)
    assert outcome.num_failed <= 1  # a small model may repeat itself, which is a failure
    assert all((summary.text is None) is bool(summary.error) for summary in outcome.summaries)
    assert outcome.prompt_tokens > 100
    assert 20 < outcome.completion_tokens <= 60 * 6
    again = write_summaries(
        writer, [film for film, one in zip(films, outcome.summaries, strict=True) if one.text], tmp_path
    )
    assert (again.num_written, again.prompt_tokens) == (0, 0)


def test_a_refusal_of_the_server_is_reported(url: str) -> None:
    """For an invalid role the server responds 4xx or 5xx with a message, which becomes the reason of the failure."""
    client = ChatClient(url, timeout=60, retries=0)
    writer = ServerWriter(Prompts("movie", "text"), client, url, "no/such-model", max_tokens=5, patience=5)
    ((_, summary),) = writer.write([Request("item", "1", {"title": "Jaws"})])
    assert summary.text is None
    assert str(summary.error).startswith("status 4") or str(summary.error).startswith("status 5")
