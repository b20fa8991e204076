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

_OPEN = ("/health",)  # no token: orchestrators probe it


class _TooLargeError(Exception):
    """The body exceeds the limit."""


class Limits:
    """ASGI middleware that answers 401, 413, 408 and 503, and records counts and latencies.

    Args:
        app: The application behind it.
        registry: Holds the metrics.
        paths: Paths with a label of their own; all others share one, which bounds the memory of the metrics.
        token: Required bearer token; None for none.
        max_bytes: Largest body of a request.
        timeout: Seconds to receive a request, and to answer it.
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
        """Refuse a request, or pass it on to the application."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = scope["path"] if scope["path"] in self._paths else "other"
        started, status = time.perf_counter(), 0

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            refusal = await self._answer(scope, receive, noted)
            if refusal is not None and not status:
                await _respond(noted, *refusal)
        finally:
            self._requests.labels(path, status or 500).inc()
            self._seconds.labels(path).observe(time.perf_counter() - started)

    async def _answer(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> tuple[int, str] | None:
        """Status and reason of a refusal; None if the application has answered."""
        headers = dict(scope["headers"])
        given = headers.get(b"authorization", b"")
        guarded = self._token is not None and scope["path"] not in _OPEN
        if guarded and not hmac.compare_digest(given, self._token or b""):
            return 401, "authorization: expected the server's bearer token"
        try:
            body = await asyncio.wait_for(self._read(headers, receive), self._timeout)
        except _TooLargeError:
            return 413, f"body: expected at most {self._max_bytes:,} bytes"
        except TimeoutError:
            return 408, f"body: expected all of it within {self._timeout:g} s"
        if body is None:
            return None  # the client has gone
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
        announced = headers.get(b"content-length", b"0")
        if announced.isdigit() and int(announced) > self._max_bytes:
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
    headers += [(b"connection", b"close")]  # what is left of the body is not read
    headers += [(b"www-authenticate", b"Bearer")] if status == 401 else []
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})
