"""Limits on requests: bearer token, size and time."""

import asyncio
import hmac
import json
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

_PUBLIC_PATHS = ("/health",)  # without a token, as orchestrators probe it


class _TooLargeError(Exception):
    """The request body exceeds the limit."""


class Limits:
    """ASGI middleware that enforces limits by status 401, 408, 413 and 503, and records counts and latencies.

    Args:
        app: The wrapped application.
        registry: Prometheus registry of the metrics.
        paths: Paths with their own label in metrics; all others share one, which bounds the memory of the metrics.
        token: Required bearer token; None to require none.
        max_bytes: Maximum size of a request body.
        timeout: Timeout in seconds, both to receive a request and to answer it.
    """

    def __init__(
        self,
        app: App,
        registry: CollectorRegistry,
        paths: frozenset[str],
        token: str | None,
        max_bytes: int,
        timeout: float,
    ) -> None:
        self._app, self._paths, self._max_bytes, self._timeout = app, paths, max_bytes, timeout
        self._token = None if token is None else f"Bearer {token}".encode()
        self._requests = Counter("face_requests", "Requests by path and status.", ["path", "status"], registry=registry)
        self._seconds = Histogram("face_request_seconds", "Seconds by path.", ["path"], registry=registry)

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Reject a request, or pass it on to the application."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = scope["path"] if scope["path"] in self._paths else "other"
        started, status = time.perf_counter(), 0

        async def send_recorded(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            rejection = await self._answer(scope, receive, send_recorded)
            if rejection is not None and not status:
                await _respond(send_recorded, *rejection)
        finally:
            self._requests.labels(path, status or 500).inc()
            self._seconds.labels(path).observe(time.perf_counter() - started)

    async def _answer(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> tuple[int, str] | None:
        """Pass a request on; returns the status and reason of a rejection, None if the application has answered."""
        headers = dict(scope["headers"])
        authorization = headers.get(b"authorization", b"")
        needs_token = self._token is not None and scope["path"] not in _PUBLIC_PATHS
        if needs_token and not hmac.compare_digest(authorization, self._token or b""):
            return 401, "authorization: expected the server's bearer token"
        try:
            body = await asyncio.wait_for(self._read(headers, receive), self._timeout)
        except _TooLargeError:
            return 413, f"body: expected at most {self._max_bytes:,} bytes"
        except TimeoutError:
            return 408, f"body: expected all of it within {self._timeout:g} s"
        if body is None:
            return None  # the client has disconnected
        sent = False

        async def replay() -> Message:
            nonlocal sent
            if sent:
                return await receive()
            sent = True
            return {"type": "http.request", "body": body, "more_body": False}

        try:
            await asyncio.wait_for(self._app(scope, replay, send), self._timeout)
        except TimeoutError:
            return 503, f"expected an answer within {self._timeout:g} s, but the server is too busy; try again"
        return None

    async def _read(self, headers: dict[bytes, bytes], receive: Receive) -> bytes | None:
        """Read the request body; None if the client disconnects."""
        content_length = headers.get(b"content-length", b"0")
        if content_length.isdigit() and int(content_length) > self._max_bytes:
            raise _TooLargeError
        body = bytearray()
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            body += message.get("body", b"")
            if len(body) > self._max_bytes:
                raise _TooLargeError
            if not message.get("more_body", False):
                return bytes(body)


async def _respond(send: Send, status: int, reason: str) -> None:
    content = json.dumps({"detail": reason}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode())]
    headers += [(b"connection", b"close")]  # the rest of the request body is not read
    headers += [(b"www-authenticate", b"Bearer")] if status == 401 else []
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})
