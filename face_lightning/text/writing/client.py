"""One request to an OpenAI-compatible server, repeated as politely as the server asks."""

import http.client
import json
import random
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.message import Message
from typing import IO, Any, TypeVar
from urllib.parse import urlsplit

from face_lightning.errors import ConfigurationError

_Result = TypeVar("_Result")
_MOST_BYTES = 10_000_000  # of a reply
_LONGEST_WAIT = 120.0  # seconds between two tries, whatever the server asks for


class GiveUpError(Exception):
    """A request that failed for good, or too often; says why."""


class RetryError(Exception):
    """A reply that another try may mend; says why.

    Attributes:
        wait: Seconds that the server asks to wait; None where it does not say.
    """

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


@dataclass(frozen=True)
class Reply:
    """What a chat model answered.

    Attributes:
        content: The answer; None where the reply holds none.
        prompt_tokens: Tokens that the model read, 0 where the server does not say.
        completion_tokens: Tokens that it wrote, likewise.
    """

    content: object
    prompt_tokens: int
    completion_tokens: int


class Pace:
    """Spaces requests of many threads evenly, and lets all of them wait when the server asks for it.

    Args:
        per_minute: Most requests a minute; no limit if None.
    """

    def __init__(self, per_minute: float | None) -> None:
        self._interval = 60.0 / per_minute if per_minute else 0.0
        self._next = 0.0
        self._lock = threading.Lock()

    def wait(self, stop: threading.Event) -> None:
        """Return when it is the caller's turn, or at once when `stop` is set."""
        with self._lock:
            turn = max(self._next, time.monotonic())
            self._next = turn + self._interval
        stop.wait(max(0.0, turn - time.monotonic()))

    def hold(self, seconds: float) -> None:
        """Let nobody start a request in the next `seconds`."""
        with self._lock:
            self._next = max(self._next, time.monotonic() + seconds)


class ChatClient:
    """Sends chats to `{url}/chat/completions`.

    Args:
        url: Address of the server's API, such as http://localhost:8000/v1.
        api_key: Key sent as a bearer token; none if None.
        timeout: Seconds to wait for a reply.
        retries: Further tries after a failed one.
        backoff: Seconds before the second try; each later wait is twice as long.
        per_minute: Most requests a minute; no limit if None.

    Raises:
        ConfigurationError: If the address is none of http or https.
    """

    def __init__(
        self,
        url: str,
        api_key: str | None = None,
        timeout: float = 120.0,
        retries: int = 5,
        backoff: float = 1.0,
        per_minute: float | None = None,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigurationError(
                f"url: expected the address of an OpenAI-compatible API, such as http://localhost:8000/v1, got {url!r}"
            )
        self._url = url.rstrip("/") + "/chat/completions"
        self._headers = {"Content-Type": "application/json"}
        if api_key is not None:
            self._headers["Authorization"] = f"Bearer {api_key}"
        self._timeout, self._retries, self._backoff = timeout, retries, backoff
        self._pace = Pace(per_minute)
        self._opener = urllib.request.build_opener(_NoRedirect)
        self.stop = threading.Event()

    def ask(self, body: Mapping[str, Any], read: Callable[[Reply], _Result]) -> _Result:
        """Send a chat until a reply can be read.

        Args:
            body: The request.
            read: Makes a result of a reply; raises `RetryError` where another try may mend it.

        Raises:
            GiveUpError: If the server refuses this request, or all tries fail.
            ConfigurationError: If the server refuses every such request: wrong key, model or address.
        """
        for attempt in range(self._retries + 1):
            self._pace.wait(self.stop)
            if self.stop.is_set():
                raise GiveUpError("stopped")
            try:
                return read(self._send(body))
            except RetryError as error:
                last = error
            wait = self._backoff * 2**attempt * random.uniform(0.75, 1.25)
            if last.wait is not None:
                wait = max(wait, min(last.wait, _LONGEST_WAIT))
                self._pace.hold(wait)  # the server is busy, not this request wrong
            elif attempt < self._retries:
                self.stop.wait(min(wait, _LONGEST_WAIT))
        raise GiveUpError(f"{last} ({self._retries + 1} tries)")

    def _send(self, body: Mapping[str, Any]) -> Reply:
        """Send a chat once."""
        request = urllib.request.Request(self._url, json.dumps(body).encode(), self._headers)
        try:
            with self._opener.open(request, timeout=self._timeout) as response:
                data = response.read(_MOST_BYTES + 1)
        except urllib.error.HTTPError as error:
            with error:
                raise self._refused(error) from error
        except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
            reason = getattr(error, "reason", None) or error
            raise RetryError(f"no reply from {self._url} ({type(error).__name__}: {reason!s:.80})") from error
        if len(data) > _MOST_BYTES:
            raise RetryError(f"a reply of more than {_MOST_BYTES:,} bytes")
        return _read_reply(data)

    def _refused(self, error: urllib.error.HTTPError) -> Exception:
        """Tell what to make of a status that is no success."""
        told = _message(error)
        if error.code in (408, 409, 425, 429) or error.code >= 500:
            return RetryError(f"status {error.code}{told}", _seconds(error.headers.get("Retry-After"), error.code))
        if error.code in (400, 413, 422):  # this chat is wrong, such as too long; others may be right
            return GiveUpError(f"status {error.code}{told}")
        cure = "check the key" if error.code in (401, 403) else "check --url (it mostly ends in /v1) and --model"
        return ConfigurationError(f"url: expected {self._url} to answer, got status {error.code}{told}; {cure}")


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Follows no redirect: it would carry the key to another server."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> None:
        """Refuse."""


def _read_reply(data: bytes) -> Reply:
    """Return what a reply says; garbage may be mended by another try."""
    try:
        value = json.loads(data)
        content = value["choices"][0]["message"]["content"]
    except (ValueError, KeyError, IndexError, TypeError, RecursionError) as error:
        start = data[:60].decode("utf-8", "replace")
        raise RetryError(f"expected a chat completion, got {start!r}" if data else "an empty reply") from error
    usage = value.get("usage")
    counts = [usage.get(name) if isinstance(usage, dict) else None for name in ("prompt_tokens", "completion_tokens")]
    prompt, completion = (count if isinstance(count, int) and count > 0 else 0 for count in counts)
    return Reply(content, prompt, completion)


def _message(error: urllib.error.HTTPError) -> str:
    """Return what the server says of an error, in a few words."""
    try:
        text = error.read(10_000).decode("utf-8", "replace")
    except (OSError, http.client.HTTPException):
        return ""
    text = " ".join((_told(text) or text).split())
    return f": {text:.120}" if text else ""


def _told(text: str) -> str | None:
    """Return the message of an error in the usual JSON form, None where it has another."""
    try:
        value = json.loads(text)
        found = value["error"]["message"] if isinstance(value.get("error"), dict) else value.get("error")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return found if isinstance(found, str) else None


def _seconds(retry_after: str | None, status: int) -> float | None:
    """Return how long a server asks to wait; a date counts as not said."""
    try:
        return max(0.0, float(retry_after or ""))
    except ValueError:
        return 0.0 if status == 429 else None
