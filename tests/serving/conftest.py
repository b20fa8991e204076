"""A server in a thread of the test process, on a free port."""

import gc
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import uvicorn

from face_lightning.serving.http_service import Settings, create_app
from tests.serving.client import Client

Start = Callable[..., Client]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start servers of a run, which stop at the end of the test."""
    servers: list[tuple[uvicorn.Server, threading.Thread]] = []

    def begin(run: Path, **settings: float | str) -> Client:
        app = create_app(Settings(str(run), **settings))  # type: ignore[arg-type]
        server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning"))
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        servers.append((server, thread))
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        return Client(server.servers[0].sockets[0].getsockname()[1], app)

    yield begin
    for server, thread in servers:
        server.should_exit = True
        thread.join(timeout=20)
    gc.unfreeze()
