"""Tests of the deadline for whole HTTP responses."""

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from face_lightning.text.writing.client import ChatClient, GiveUpError

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n"


@pytest.fixture(params=[b"", HEAD], ids=["head", "body"])
def dripping(request: pytest.FixtureRequest) -> Iterator[str]:
    """Address of a server that sends one byte every 0.05 s, of the headers or of the body of its response."""
    stop = threading.Event()
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            try:
                connection.recv(1 << 16)
                connection.sendall(request.param)
                for byte in HEAD * 99 if not request.param else b"x" * 99999:
                    if stop.wait(0.05):
                        return
                    connection.sendall(bytes([byte]))
            except OSError:
                return

    threading.Thread(target=serve, daemon=True).start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
    stop.set()
    listener.close()


def test_slow_response_times_out(dripping: str) -> None:
    client = ChatClient(dripping, timeout=0.3, retries=0)
    started = time.monotonic()
    with pytest.raises(GiveUpError, match=r"1 attempts"):
        client.ask({}, lambda reply: reply)
    assert time.monotonic() - started < 60, "the server would take 80 minutes"
