"""Client of an OpenAI-compatible server, with retries and rate limits."""

import http.client
import json
import random
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from email.message import Message
from typing import IO, Any, TypeVar
from urllib.parse import urlsplit

from face_lightning.errors import ConfigurationError
from face_lightning.plain_text import whole
from face_lightning.redaction import redact, redact_key
from face_lightning.text.writing.deadline import ExpiringHTTP, ExpiringHTTPS, read_until

_Result = TypeVar("_Result")
_MAX_REPLY_BYTES = 10_000_000
_MAX_WAIT = 120.0  # seconds between two tries, whatever the server asks for


class GiveUpError(Exception):
    """A request failed permanently, or too often; the message is the reason."""


class RetryError(Exception):
    """A request failed and may succeed when repeated; the message is the reason.

    Attributes:
        wait: Seconds that the server asks to wait; None if it does not say.
    """

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


@dataclass(frozen=True)
class Reply:
    """Reply of a chat model.

    Attributes:
        content: The answer; None if the reply has none.
        prompt_tokens: Tokens of the prompt; 0 if the server does not say.
        completion_tokens: Tokens of the answer; likewise.
    """

    content: object
    prompt_tokens: int
    completion_tokens: int


class RateLimiter:
    """Spaces the requests of all threads evenly, and pauses them when the server asks for it.

    Args:
        per_minute: Maximum number of requests per minute; no limit if None.
    """

    def __init__(self, per_minute: float | None) -> None:
        self._interval = 60.0 / per_minute if per_minute else 0.0
        self._next = 0.0
        self._lock = threading.Lock()

    def wait(self, stop: threading.Event) -> None:
        """Block until the caller may send a request, or until `stop` is set."""
        with self._lock:
            turn = max(self._next, time.monotonic())
            self._next = turn + self._interval
        stop.wait(max(0.0, turn - time.monotonic()))

    def pause(self, seconds: float) -> None:
        """Start no request in the next `seconds`."""
        with self._lock:
            self._next = max(self._next, time.monotonic() + seconds)


class ChatClient:
    """Sends requests to `{url}/chat/completions`.

    Args:
        url: Address of the server's API, such as http://localhost:8000/v1.
        api_key: Bearer token; not sent if None.
        timeout: Seconds to wait for a whole reply.
        retries: Number of retries of a failed request.
        backoff: Seconds before the first retry; doubled for each later one.
        per_minute: Maximum number of requests per minute; no limit if None.

    Raises:
        ConfigurationError: If the address does not start with http or https, or contains a password.
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
        if "@" in parts.netloc:
            raise ConfigurationError(
                "url: expected an address without user and password, got one with them; leave them out, and give the "
                "key with --api_key_env NAME"
            )
        self._key = api_key
        self._headers = {"Content-Type": "application/json"}
        if api_key is not None:
            self._headers["Authorization"] = f"Bearer {api_key}"
        self._timeout, self._retries, self._backoff = timeout, retries, backoff
        self._limiter = RateLimiter(per_minute)
        self._opener = urllib.request.build_opener(_NoRedirect, ExpiringHTTP, ExpiringHTTPS)
        self.stop = threading.Event()

    def ask(self, body: Mapping[str, Any], read: Callable[[Reply], _Result]) -> _Result:
        """Send a request until its reply can be read.

        Args:
            body: The request.
            read: Converts a reply to a result; raises `RetryError` to repeat the request.

        Raises:
            GiveUpError: If the server rejects this request, or all attempts fail.
            ConfigurationError: If the server would reject every request: wrong key, model or address.
        """
        for attempt in range(self._retries + 1):
            self._limiter.wait(self.stop)
            if self.stop.is_set():
                raise GiveUpError("stopped")
            try:
                return read(self._send(body))
            except RetryError as error:
                last = error
            wait = self._backoff * 2**attempt * random.uniform(0.75, 1.25)
            if last.wait is not None:
                wait = max(wait, min(last.wait, _MAX_WAIT))
                self._limiter.pause(wait)  # the server is busy
            elif attempt < self._retries:
                self.stop.wait(min(wait, _MAX_WAIT))
        raise GiveUpError(f"{last} ({self._retries + 1} attempts)")

    def redact(self, text: str) -> str:
        """Remove the key from a text. Repeat after every decoding, since JSON may escape the key's characters."""
        return redact_key(text, self._key)

    def _send(self, body: Mapping[str, Any]) -> Reply:
        """Send a request once."""
        request = urllib.request.Request(self._url, json.dumps(body).encode(), self._headers)
        deadline = time.monotonic() + self._timeout
        try:
            with self._opener.open(request, timeout=self._timeout) as response:
                data = read_until(response, _MAX_REPLY_BYTES + 1, deadline)
        except urllib.error.HTTPError as error:
            with error:
                raise self._status_error(error, deadline) from error
        except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
            reason = getattr(error, "reason", None) or error
            raise RetryError(f"no reply from {self._url} ({type(error).__name__}: {reason!s:.80})") from error
        if len(data) > _MAX_REPLY_BYTES:
            raise RetryError(f"a reply of more than {_MAX_REPLY_BYTES:,} bytes")
        reply = _read_reply(redact_key(data.decode("utf-8", "replace"), self._key))
        if not isinstance(reply.content, str):
            return reply
        return replace(reply, content=whole(self.redact(reply.content)))

    def _status_error(self, error: urllib.error.HTTPError, deadline: float) -> Exception:
        """Return the exception for an HTTP status other than success."""
        detail = _error_detail(error, self._key, deadline)
        if error.code in (408, 409, 425, 429) or error.code >= 500:
            return RetryError(f"status {error.code}{detail}", _seconds(error.headers.get("Retry-After"), error.code))
        if error.code in (400, 413, 422):  # wrong for this request, e.g. too long; others may succeed
            return GiveUpError(f"status {error.code}{detail}")
        cure = "check the key" if error.code in (401, 403) else "check --url (it usually ends in /v1) and --model"
        return ConfigurationError(f"url: expected {self._url} to answer, got status {error.code}{detail}; {cure}")


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Does not follow redirects, which would send the key to another server."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> None:
        """Do not redirect."""


def _read_reply(data: str) -> Reply:
    """Parse a reply; a malformed one may be retried."""
    try:
        value = json.loads(data)
        content = value["choices"][0]["message"]["content"]
    except (ValueError, KeyError, IndexError, TypeError, RecursionError) as error:
        start = data[:60]
        raise RetryError(f"expected a chat completion, got {start!r}" if data else "an empty reply") from error
    usage = value.get("usage")
    counts = [usage.get(name) if isinstance(usage, dict) else None for name in ("prompt_tokens", "completion_tokens")]
    prompt, completion = (count if isinstance(count, int) and count > 0 else 0 for count in counts)
    return Reply(content, prompt, completion)


def _error_detail(error: urllib.error.HTTPError, key: str | None, deadline: float) -> str:
    """Return the server's description of an error, shortened, without the key, which a server may repeat."""
    try:
        text = read_until(error, 10_000, deadline).decode("utf-8", "replace")
    except (OSError, http.client.HTTPException):
        return ""
    text = redact(" ".join((_error_message(text) or text).split()), key)
    return f": {text:.120}" if text else ""


def _error_message(text: str) -> str | None:
    """Return the message of an error in OpenAI's form or FastAPI's; None for other forms."""
    try:
        value = json.loads(text)
        found = value.get("error", value.get("detail"))
        found = found["message"] if isinstance(found, dict) else found
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return found if isinstance(found, str) else None


def _seconds(retry_after: str | None, status: int) -> float | None:
    """Return the seconds that a server asks to wait; dates are not supported."""
    try:
        return max(0.0, float(retry_after or ""))
    except ValueError:
        return 0.0 if status == 429 else None
