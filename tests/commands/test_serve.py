import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from benchmarks.http_load import wait_for
from face_lightning.cli import main
from tests.recommending.test_recommender import write_run

ROOT = Path(__file__).resolve().parents[2]


def ask(port: int) -> dict[str, object]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", "/health")
    content: dict[str, object] = json.loads(connection.getresponse().read())
    connection.close()
    return content


@pytest.mark.parametrize("workers", ["1", pytest.param("2", marks=pytest.mark.slow)])
def test_the_command_serves_until_it_is_stopped(tmp_path: Path, workers: str) -> None:
    run = write_run(tmp_path / "run")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "face_lightning.cli", "serve", "--run", str(run), "--port", str(port)]
    process = subprocess.Popen(
        [*command, "--workers", workers], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, stderr=subprocess.PIPE
    )
    try:
        for _ in range(600):
            try:
                health = ask(port)
                break
            except OSError:
                assert process.poll() is None, process.stderr.read() if process.stderr else ""
                time.sleep(0.1)
        assert (health["status"], health["items"]) == ("ok", 5)
        wait_for(process, int(workers))
        server = psutil.Process(process.pid)
        sockets = [one for part in [server, *server.children()] for one in part.net_connections("tcp")]
        listening = [one.laddr.ip for one in sockets if one.status == psutil.CONN_LISTEN]
        assert listening == ["127.0.0.1"] * int(workers)
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--port", "0"], "port: expected at least 1 and at most 65535, got 0"),
        (["--workers", "0"], "workers: expected at least 1, got 0"),
        (["--timeout", "0"], "timeout: expected more than 0, got 0.0"),
        ([], "run: expected the folder of a finished run"),
    ],
)
def test_mistakes(tmp_path: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--run", str(tmp_path), *arguments]) == 2
    assert message in capsys.readouterr().err
