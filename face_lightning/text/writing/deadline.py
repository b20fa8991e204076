"""HTTP handlers with a deadline for the whole response; a socket's timeout restarts with every byte received."""

import contextlib
import http.client
import socket
import threading
import time
import urllib.request
from typing import IO

_BLOCK = 1 << 16


class _Expiring(http.client.HTTPConnection):
    """Closes the connection if the headers of the response do not arrive within the timeout."""

    def connect(self) -> None:
        """Connect and start the timer."""
        super().connect()
        connected: socket.socket = self.sock
        self._timer = threading.Timer(float(self.timeout or 0), _shut, [connected])
        self._timer.daemon = True
        self._timer.start()

    def getresponse(self) -> http.client.HTTPResponse:
        """Read the headers of the response and stop the timer."""
        try:
            return super().getresponse()
        finally:
            self._timer.cancel()


class _ExpiringTLS(_Expiring, http.client.HTTPSConnection):
    """`_Expiring` with TLS."""


class ExpiringHTTP(urllib.request.HTTPHandler):
    """Opens http:// with a deadline for the headers of the response."""

    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        """See `urllib.request.HTTPHandler`."""
        return self.do_open(_Expiring, req)


class ExpiringHTTPS(urllib.request.HTTPSHandler):
    """Opens https:// with a deadline for the headers of the response."""

    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        """See `urllib.request.HTTPSHandler`."""
        return self.do_open(_ExpiringTLS, req, context=self._context)  # type: ignore[attr-defined]


def read_until(response: IO[bytes], most: int, deadline: float) -> bytes:
    """Read the body of a response.

    Args:
        response: The response.
        most: Maximum number of bytes to read.
        deadline: Time to stop, on the clock of `time.monotonic`.

    Raises:
        TimeoutError: If the body has not ended by then.
    """
    parts, size = [], 0
    read = getattr(response, "read1", response.read)  # returns the bytes that have arrived, without waiting for more
    while size < most and (part := read(min(_BLOCK, most - size))):
        parts.append(part)
        size += len(part)
        if time.monotonic() > deadline:
            raise TimeoutError("the answer takes longer than the timeout")
    return b"".join(parts)


def _shut(connected: socket.socket) -> None:
    with contextlib.suppress(OSError):  # closed already
        connected.shutdown(socket.SHUT_RDWR)
