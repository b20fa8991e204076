import json
import re
import time
from collections.abc import Callable
from typing import Any

import pytest

from face_lightning.errors import ConfigurationError, DataError
from face_lightning.text.writing.client import ChatClient
from face_lightning.text.writing.prompts import Prompts
from face_lightning.text.writing.server import ServerWriter
from face_lightning.text.writing.writer import Request, Summary

GOOD = "People who enjoy quiet stories about the sea."


def completion(content: object, tokens: tuple[int, int] | None = (11, 7)) -> bytes:
    """Reply in the format of the OpenAI API."""
    usage = {} if tokens is None else {"usage": {"prompt_tokens": tokens[0], "completion_tokens": tokens[1]}}
    return json.dumps({"choices": [{"message": {"role": "assistant", "content": content}}], **usage}).encode()


def good(text: str = GOOD) -> bytes:
    return completion(json.dumps({"reasoning": "the tags say so", "summarization": text}))


def films(count: int) -> list[Request]:
    return [Request("item", str(number), {"title": f"Film {number}", "tags": ["Drama"]}) for number in range(count)]


def write(server: Any, requests: list[Request], **settings: Any) -> list[Summary]:
    names = ("api_key", "timeout", "retries", "per_minute")
    client = ChatClient(server.url, **{"backoff": 0.01} | {k: v for k, v in settings.items() if k in names})
    rest = {name: value for name, value in settings.items() if name not in names}
    writer = ServerWriter(Prompts("movie"), client, server.url, "some-model", **rest)
    found = dict(writer.write(requests))
    return [found[position] for position in range(len(requests))]


def test_one_request_per_entity(serve: Callable[..., Any]) -> None:
    server = serve(lambda number, body: (200, good(), {}))
    summaries = write(server, films(5), api_key="secret", max_tokens=99)
    assert summaries == [Summary(GOOD, None, 11, 7)] * 5
    assert len(server.bodies) == 5
    body = server.bodies[0]
    assert (body["model"], body["temperature"], body["max_tokens"]) == ("some-model", 0, 99)
    assert body["response_format"] == {"type": "json_object"}
    assert body["messages"][1]["content"].startswith("Title: Film ")
    assert {header["path"] for header in server.headers} == {"/v1/chat/completions"}
    assert {header["Authorization"] for header in server.headers} == {"Bearer secret"}


def test_answers_belong_to_their_entities(serve: Callable[..., Any]) -> None:
    def reply(number: int, body: dict[str, Any]) -> tuple[int, bytes, dict[str, str]]:
        time.sleep(0.02 * (number % 3))  # replies arrive in another order than requests
        film = body["messages"][1]["content"].split("\n")[0].removeprefix("Title: Film ")
        return 200, good(f"People who like number {film}."), {}

    texts = [summary.text for summary in write(serve(reply), films(20), concurrency=4)]
    assert texts == [f"People who like number {number}." for number in range(20)]


def test_concurrent_requests_are_limited(serve: Callable[..., Any]) -> None:
    def reply(number: int, body: dict[str, Any]) -> tuple[int, bytes, dict[str, str]]:
        time.sleep(0.05)
        return 200, good(), {}

    server = serve(reply)
    write(server, films(12), concurrency=3)
    assert server.most_at_once == 3


@pytest.mark.parametrize(
    "bad",
    [
        (429, b"", {}),
        (429, b"slow down", {"Retry-After": "0"}),
        (500, b"<html>oops</html>", {}),
        (503, b'{"error": {"message": "loading"}}', {}),
        (200, b"", {}),
        (200, b"garbage", {}),
        (200, b"[]", {}),
        (200, b'{"choices": []}', {}),
        (200, b'{"choices": [{"message": {}}]}', {}),
        (200, completion(None), {}),
        (200, completion("People who enjoy the sea."), {}),
        (200, completion('{"summarization": ""}'), {}),
        (200, b"\xff" * 100, {}),
        (200, good()[:-20], {}),
        (0, b"", {}),
    ],
    ids=str,
)
def test_transient_failures_are_retried(serve: Callable[..., Any], bad: tuple[int, bytes, Any]) -> None:
    server = serve(lambda number, body: bad if number < 2 else (200, good(), {}))
    (summary,) = write(server, films(1), timeout=0.3)
    assert (summary.text, summary.error, len(server.bodies)) == (GOOD, None, 3)


def test_invalid_answer_is_sampled_again(serve: Callable[..., Any]) -> None:
    server = serve(lambda number, body: (200, completion("garbage") if number == 0 else good(), {}))
    assert write(server, films(1)) == [Summary(GOOD, None, 22, 14)]
    assert [body["temperature"] for body in server.bodies] == [0, 0.7]


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ((429, b"busy", {"Retry-After": "0"}), r"status 429: busy \(3 attempts\)"),
        ((500, b'{"error": {"message": "out of\\nmemory"}}', {}), r"status 500: out of memory \(3 attempts\)"),
        ((200, b"garbage", {}), r"expected a chat completion, got 'garbage' \(3 attempts\)"),
        ((200, b"", {}), r"an empty reply \(3 attempts\)"),
        ((200, completion("{}"), {}), r'no text in "summarization" \(3 attempts\)'),
        ((0, b"", {}), r"no reply from http.* \(3 attempts\)"),
        ((400, b'{"error": "prompt too long"}', {}), "status 400: prompt too long$"),
        ((400, b'{"detail": "pinned to \'m\'"}', {}), "status 400: pinned to 'm'$"),  # transformers serve
    ],
    ids=str,
)
def test_permanent_failure_has_a_reason_and_others_continue(
    serve: Callable[..., Any], bad: tuple[int, bytes, Any], reason: str
) -> None:
    def reply(number: int, body: dict[str, Any]) -> tuple[int, bytes, dict[str, str]]:
        return bad if "Film 1\n" in body["messages"][1]["content"] else (200, good(), {})

    summaries = write(serve(reply), films(3), retries=2, timeout=5)
    assert [summary.text for summary in summaries] == [GOOD, None, GOOD]
    assert re.search(reason, str(summaries[1].error))


def test_silent_server_times_out(serve: Callable[..., Any]) -> None:
    def reply(number: int, body: dict[str, Any]) -> tuple[int, bytes, dict[str, str]]:
        time.sleep(0.4 if number == 0 else 0)
        return 200, good(), {}

    server = serve(reply)
    assert [summary.text for summary in write(server, films(1), timeout=0.1)] == [GOOD]
    assert len(server.bodies) == 2


@pytest.mark.parametrize(
    ("status", "body", "cure"),
    [
        (401, b'{"error": {"message": "bad key"}}', "status 401: bad key; check the key"),
        (403, b"", "status 403; check the key"),
        (404, b"no such model", "status 404: no such model; check --url"),
        (302, b"", "status 302; check --url"),
    ],
)
def test_errors_of_all_requests_stop_the_run(serve: Callable[..., Any], status: int, body: bytes, cure: str) -> None:
    headers = {"Location": "http://127.0.0.1:1/"} if status == 302 else {}
    server = serve(lambda number, request: (status, body, headers))
    with pytest.raises(ConfigurationError, match=cure):
        write(server, films(50), concurrency=2)
    assert len(server.bodies) <= 4


def test_consecutive_failures_stop_the_run(serve: Callable[..., Any]) -> None:
    server = serve(lambda number, body: (500, b"down", {}))
    with pytest.raises(DataError, match=r"4 consecutive requests .* status 500: down \(1 attempts\); fix that"):
        write(server, films(100), retries=0, patience=4, concurrency=2)
    assert len(server.bodies) <= 10


def test_an_unreachable_server_is_reported() -> None:
    class Nobody:
        url = "http://127.0.0.1:9/v1"

    with pytest.raises(DataError, match=r"no reply from http://127.0.0.1:9/v1/chat/completions"):
        write(Nobody(), films(3), retries=1, patience=3)


def test_retry_after_pauses_all_threads(serve: Callable[..., Any]) -> None:
    times: list[float] = []

    def reply(number: int, body: dict[str, Any]) -> tuple[int, bytes, dict[str, str]]:
        times.append(time.monotonic())
        return (429, b"", {"Retry-After": "0.5"}) if number == 0 else (200, good(), {})

    summaries = write(serve(reply), films(6), concurrency=1)
    assert [summary.text for summary in summaries] == [GOOD] * 6
    assert times[1] - times[0] >= 0.45


def test_requests_respect_the_rate_limit(serve: Callable[..., Any]) -> None:
    server = serve(lambda number, body: (200, good(), {}))
    started = time.monotonic()
    write(server, films(6), per_minute=600)  # one per 0.1 s: the sixth starts after 0.5 s
    assert time.monotonic() - started >= 0.5


@pytest.mark.parametrize("url", ["localhost:8000", "file:///etc/passwd", "ftp://x/v1", "http://", ""])
def test_invalid_addresses_raise(url: str) -> None:
    with pytest.raises(ConfigurationError, match="url: expected the address of an OpenAI-compatible API"):
        ChatClient(url)


def test_cache_key_depends_on_server_model_and_settings() -> None:
    client = ChatClient("http://x/v1")
    writers = [
        ServerWriter(Prompts("movie"), client, "http://x/v1", "m"),
        ServerWriter(Prompts("movie"), client, "http://y/v1", "m"),
        ServerWriter(Prompts("movie"), client, "http://x/v1", "n"),
        ServerWriter(Prompts("movie"), client, "http://x/v1", "m", max_tokens=9),
        ServerWriter(Prompts("game"), client, "http://x/v1", "m"),
    ]
    assert len({writer.identity for writer in writers}) == 5
    assert ServerWriter(Prompts("movie"), client, "http://x/v1/", "m").identity == writers[0].identity


KEY = "sk-live/4f9a"


@pytest.mark.parametrize(
    "echo",
    [
        (400, json.dumps({"error": {"message": f"no credit on {KEY}"}}).encode(), {}),
        (500, f"<html>Authorization: Bearer {KEY}</html>".encode(), {}),
        (401, json.dumps({"error": f"wrong key: {KEY}"}).encode(), {}),
        (200, f"debug {KEY}".encode(), {}),
        (200, completion(json.dumps({"summarization": f"People who like {KEY} and quiet stories."})), {}),
        (200, completion(json.dumps({"summarization": f"People who like {KEY}."})).replace(b"/", b"\\\\/"), {}),
    ],
    ids=range(6),
)
def test_api_key_in_replies_is_redacted(serve: Callable[..., Any], echo: tuple[int, bytes, Any]) -> None:
    client = ChatClient(serve(lambda number, body: echo).url, api_key=KEY, retries=0)
    try:
        (_, summary), *_ = ServerWriter(Prompts("movie"), client, "u", "m").write(films(1))
        seen = repr(summary)
    except ConfigurationError as error:
        seen = str(error)
    assert "***" in seen
    assert "4f9a" not in seen


def test_address_with_a_password_raises_without_showing_it() -> None:
    with pytest.raises(ConfigurationError, match="url: expected an address without user and password") as caught:
        ChatClient("https://me:hunter2@host/v1")
    assert "hunter2" not in str(caught.value)
