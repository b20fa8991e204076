"""Requests over a real socket, without a library that would mend them."""

import http.client
import json
import socket
from dataclasses import dataclass
from typing import Any


@dataclass
class Client:
    """Asks a server at a port of this machine."""

    port: int
    app: Any

    def ask(
        self, method: str, path: str, body: bytes | Any = None, headers: dict[str, str] | None = None
    ) -> tuple[int, Any]:
        """Status, and the answer's JSON or text."""
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
        """What comes back to bytes as they are, until the server closes the connection."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=30) as connection:
            connection.sendall(content)
            parts = []
            while part := connection.recv(65536):
                parts.append(part)
        return b"".join(parts)
