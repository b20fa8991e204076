"""Summaries by an OpenAI-compatible server: vLLM, llama.cpp, transformers, or a hosted one."""

from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any

from face_lightning.errors import DataError
from face_lightning.text.cache import content_key
from face_lightning.text.writing.client import ChatClient, GiveUpError, Reply, RetryError
from face_lightning.text.writing.prompts import AnswerError, Prompts
from face_lightning.text.writing.writer import NOTHING_KNOWN, Request, Summary


class ServerWriter:
    """Requests summaries from a server, many at a time.

    Args:
        prompts: Builds the messages, and validates the answers.
        client: Client of the server.
        url: Address of the server, for the key of the cache.
        model: Name of the model on the server.
        concurrency: Number of concurrent requests.
        max_tokens: Maximum number of tokens of an answer.
        json_mode: Whether to restrict JSON answers to JSON by `response_format`.
        patience: Number of consecutive failures after which the run stops.
    """

    def __init__(
        self,
        prompts: Prompts,
        client: ChatClient,
        url: str,
        model: str,
        concurrency: int = 8,
        max_tokens: int = 400,
        json_mode: bool = True,
        patience: int = 10,
    ) -> None:
        self.prompts = prompts
        self.client = client
        self.url = url
        self.model = model
        self.concurrency = concurrency
        self.max_tokens = max_tokens
        self.json_mode = json_mode and prompts.answer == "json"
        self.patience = patience

    @property
    def identity(self) -> str:
        """Key of the server, its model, the settings and the prompts."""
        settings = [self.url.rstrip("/"), self.model, str(self.max_tokens), str(self.json_mode)]
        return content_key(["server", *settings, self.prompts.identity])

    def key(self, request: Request) -> str | None:
        """Key of the messages; None if there are no facts."""
        return self.prompts.key(request)

    def write(self, requests: Sequence[Request]) -> Iterator[tuple[int, Summary]]:
        """Yield summaries as the server answers.

        Raises:
            ConfigurationError: If the server would reject every request: wrong key, model or address.
            DataError: If `patience` consecutive entities fail.
        """
        waiting = iter(enumerate(requests))
        running: dict[Future[Summary], int] = {}
        failures = 0
        self.client.stop.clear()
        pool = ThreadPoolExecutor(self.concurrency, thread_name_prefix="summaries")
        try:
            while True:
                for position, request in waiting:
                    running[pool.submit(self._summary, request)] = position
                    if len(running) >= 2 * self.concurrency:
                        break
                if not running:
                    return
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    summary = future.result()
                    yield running.pop(future), summary
                    failures = failures + 1 if summary.text is None else 0
                    if failures >= self.patience:
                        raise DataError(
                            f"url: {failures} consecutive requests to {self.url} failed, the last with: {summary.error}"
                            "; fix that and run again, the summaries so far are kept"
                        )
        finally:
            self.client.stop.set()  # interrupts waits for retries
            pool.shutdown(wait=True, cancel_futures=True)

    def _summary(self, request: Request) -> Summary:
        """Request one summary until an answer is valid."""
        messages = self.prompts.messages(request)
        if messages is None:
            return Summary(None, NOTHING_KNOWN)
        body: dict[str, Any] = {
            "model": self.model,
            "messages": messages,
            "max_tokens": self.max_tokens,
            "temperature": 0,
        }
        if self.json_mode:
            body["response_format"] = {"type": "json_object"}
        spent = [0, 0]

        def read(reply: Reply) -> str:
            spent[0] += reply.prompt_tokens
            spent[1] += reply.completion_tokens
            try:
                return self.client.redact(self.prompts.read(reply.content, request))
            except AnswerError as error:
                # The most likely answer is invalid: sample another one.
                body.update(temperature=0.7, frequency_penalty=0.5)
                raise RetryError(self.client.redact(str(error))) from error

        try:
            text, error = self.client.ask(body, read), None
        except GiveUpError as reason:
            text, error = None, str(reason)
        return Summary(text, error, *spent)
