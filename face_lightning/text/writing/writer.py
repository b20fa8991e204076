"""What every writer of summaries takes and gives."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from face_lightning.text.summaries import TemplateWriter

Kind = Literal["user", "item"]
NOTHING_KNOWN = "nothing is known: no title, no tags, no description, no training item with any"


@dataclass(frozen=True)
class Request:
    """An entity to write about.

    Attributes:
        kind: "user" or "item".
        id: Its original id.
        fields: What is known of it, see `TemplateWriter`; users have besides these `items`, the fields of
            training items that are typical of them.
    """

    kind: Kind
    id: str
    fields: Mapping[str, object]


@dataclass(frozen=True)
class Summary:
    """What came of a request: a text, or the reason why there is none.

    Attributes:
        text: One line; None where the writer failed.
        error: Why there is no text; None where there is one.
        prompt_tokens: Tokens that the model read, all tries together.
        completion_tokens: Tokens that it wrote.
    """

    text: str | None
    error: str | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0


class SummaryWriter(Protocol):
    """Writes summaries; see `TemplateSummaries`, `LocalWriter` and `ServerWriter`."""

    @property
    def identity(self) -> str:
        """Key of the writer with its model and prompts: where it differs, so may the summaries."""

    def key(self, request: Request) -> str | None:
        """Key of all that the summary depends on besides the writer; None where nothing is known."""

    def write(self, requests: Sequence[Request]) -> Iterator[tuple[int, Summary]]:
        """Yield the position of each request with its summary, in any order, as they get ready."""


class TemplateSummaries:
    """The package's templates as a writer.

    Args:
        domain: What the items are: "movie", "game", "book", "restaurant" or "item".

    Raises:
        ConfigurationError: If there are no templates for the domain.
    """

    def __init__(self, domain: str) -> None:
        self._templates = TemplateWriter(domain)
        self.identity = f"template:{domain}"

    def key(self, request: Request) -> str | None:
        """Text itself: writing it costs nothing."""
        return self._templates.write(request.kind, request.fields)

    def write(self, requests: Sequence[Request]) -> Iterator[tuple[int, Summary]]:
        """Yield the summaries in order."""
        for position, request in enumerate(requests):
            text = self.key(request)
            yield position, Summary(text, None if text else NOTHING_KNOWN)
