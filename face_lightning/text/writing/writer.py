"""Interface of writers of summaries."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from face_lightning.text.summaries import TemplateWriter

Kind = Literal["user", "item"]
NOTHING_KNOWN = "no facts: no title, tags or description, and no training item with any"


@dataclass(frozen=True)
class Request:
    """An entity to write about.

    Attributes:
        kind: "user" or "item".
        id: Its original id.
        fields: Its metadata, see `TemplateWriter`; for users also `items`, the fields of training items that are
            typical of them.
    """

    kind: Kind
    id: str
    fields: Mapping[str, object]


@dataclass(frozen=True)
class Summary:
    """Result of a request: a text, or the reason why there is none.

    Attributes:
        text: One line; None if the writer failed.
        error: Why there is no text; None if there is one.
        prompt_tokens: Tokens of the prompts, over all attempts.
        completion_tokens: Generated tokens, over all attempts.
    """

    text: str | None
    error: str | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0


class SummaryWriter(Protocol):
    """Writes summaries; see `TemplateSummaries`, `LocalWriter` and `ServerWriter`."""

    @property
    def identity(self) -> str:
        """Key of everything that summaries depend on besides the request: the writer, its model and prompts."""

    def key(self, request: Request) -> str | None:
        """Key of everything in a request that its summary depends on; None if there are no facts."""

    def write(self, requests: Sequence[Request]) -> Iterator[tuple[int, Summary]]:
        """Yield the index of each request with its summary, in order of completion."""


class TemplateSummaries:
    """The package's templates as a writer.

    Args:
        domain: Kind of items: "movie", "game", "book", "restaurant" or "item".

    Raises:
        ConfigurationError: If there are no templates for the domain.
    """

    def __init__(self, domain: str) -> None:
        self._templates = TemplateWriter(domain)
        self.identity = f"template:{domain}"

    def key(self, request: Request) -> str | None:
        """Return the text itself as key, since it is cheap to render."""
        return self._templates.write(request.kind, request.fields)

    def write(self, requests: Sequence[Request]) -> Iterator[tuple[int, Summary]]:
        """Yield the summaries in order."""
        for position, request in enumerate(requests):
            text = self.key(request)
            yield position, Summary(text, None if text else NOTHING_KNOWN)
