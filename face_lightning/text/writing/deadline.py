"""HTTP whose answers have a deadline as a whole: a socket's own timeout starts anew with every byte."""

import contextlib
import http.client
import socket
import threading
import time
import urllib.request
from typing import IO

_BLOCK = 1 << 16


class _Expiring(http.client.HTTPConnection):
    """Closes the connection where the head of an answer has not come within the timeout."""

    def connect(self) -> None:
        """Connect, and start the clock."""
        super().connect()
        connected: socket.socket = self.sock
        self._clock = threading.Timer(float(self.timeout or 0), _shut, [connected])
        self._clock.daemon = True
        self._clock.start()

    def getresponse(self) -> http.client.HTTPResponse:
        """Read the head of an answer, and stop the clock."""
        try:
            return super().getresponse()
        finally:
            self._clock.cancel()


class _ExpiringTLS(_Expiring, http.client.HTTPSConnection):
    """The same with TLS."""


class ExpiringHTTP(urllib.request.HTTPHandler):
    """Opens http:// with a deadline for the head of the answer."""

    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        """See `urllib.request.HTTPHandler`."""
        return self.do_open(_Expiring, req)


class ExpiringHTTPS(urllib.request.HTTPSHandler):
    """Opens https:// with a deadline for the head of the answer."""

    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        """See `urllib.request.HTTPSHandler`."""
        return self.do_open(_ExpiringTLS, req, context=self._context)  # type: ignore[attr-defined]


def read_until(response: IO[bytes], most: int, deadline: float) -> bytes:
    """Read the body of an answer.

    Args:
        response: The answer.
        most: Bytes to read at most.
        deadline: When to stop, on the clock of `time.monotonic`.

    Raises:
        TimeoutError: If the body has not ended by then.
    """
    parts, size = [], 0
    read = getattr(response, "read1", response.read)  # what has come, without waiting for more
    while size < most and (part := read(min(_BLOCK, most - size))):
        parts.append(part)
        size += len(part)
        if time.monotonic() > deadline:
            raise TimeoutError("the answer takes longer than the timeout")
    return b"".join(parts)


def _shut(connected: socket.socket) -> None:
    with contextlib.suppress(OSError):  # closed already
        connected.shutdown(socket.SHUT_RDWR)
