"""HTTP client over a plain socket, which can send malformed requests."""

import http.client
import json
import socket
from dataclasses import dataclass
from typing import Any


@dataclass
class Client:
    """Client of a server on a local port."""

    port: int
    app: Any

    def ask(
        self, method: str, path: str, body: bytes | Any = None, headers: dict[str, str] | None = None
    ) -> tuple[int, Any]:
        """Send a request; returns the status, and the body as JSON or text."""
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, data, {"Content-Type": "application/json", **(headers or {})})
            response = connection.getresponse()
            content = response.read()
        finally:
            connection.close()
        is_json = (response.getheader("content-type") or "").startswith("application/json")
        return response.status, json.loads(content) if is_json else content.decode()

    def send(self, content: bytes) -> bytes:
        """Send raw bytes; returns all bytes received until the server closes the connection."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=30) as connection:
            connection.sendall(content)
            parts = []
            while part := connection.recv(65536):
                parts.append(part)
        return b"".join(parts)
