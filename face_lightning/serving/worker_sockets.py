"""Worker processes that listen on sockets of their own, among which the kernel distributes connections."""

import socket
import sys
from typing import Any

import uvicorn
from uvicorn.supervisors import Multiprocess

_IS_DISTRIBUTED = sys.platform == "linux"  # other systems do not distribute connections among sockets of one address


class WorkerSocket(socket.socket):
    """Bound TCP socket that is replaced by another one with the same address when it is sent to another process.

    If all workers accept connections from one socket, the first worker that wakes up may take every waiting connection.
    """

    @classmethod
    def bound(cls, host: str, port: int) -> "WorkerSocket":
        """Return a socket that is bound to an address, which other such sockets may use, too."""
        own = cls(socket.AF_INET6 if ":" in host else socket.AF_INET)
        try:
            own.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            own.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            own.bind((host, port))
        except OSError:
            own.close()
            raise
        return own

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self).bound, self.getsockname()[:2]


def run_workers(app: str, **options: Any) -> None:  # noqa: ANN401
    """`uvicorn.run` for several workers.

    Args:
        app: Import path of the application.
        options: Options of `uvicorn.Config`.
    """
    if not _IS_DISTRIBUTED:
        uvicorn.run(app, **options)
        return
    config = uvicorn.Config(app, **options)
    config.bind_socket().close()  # logs the address; exits if the port is in use, which SO_REUSEPORT would allow
    with WorkerSocket.bound(config.host, config.port) as own:
        Multiprocess(config, sockets=[own]).run()
