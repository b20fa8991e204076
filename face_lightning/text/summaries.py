"""Template summaries of users and items from their metadata.

An entity's words are learnt from its summary. Templates therefore put tastes first, and are limited to about 60 word
pieces to bound the cost of the text encoder in every training step.
"""

import functools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from jinja2 import ChainableUndefined, FileSystemLoader, TemplateNotFound
from jinja2.sandbox import ImmutableSandboxedEnvironment

from face_lightning.errors import ConfigurationError

_TEMPLATES = Path(__file__).parent / "templates"


class TemplateWriter:
    """Writes one summary per user or item of a domain.

    Fields that are missing, None or empty are skipped. Templates are
    `text/templates/{domain}.{user|item}.j2`; they use the fields

    - items: `title`, `year`, `tags` (genres, tags and categories), `author`, `developer`, `city`,
      `profile` (a description)
    - users: `favourites` (tags), `titles`, `authors`, `city`, `age`, `occupation`

    Args:
        domain: Kind of items: "movie", "game", "book", "restaurant" or "item".

    Raises:
        ConfigurationError: If there are no templates for the domain.
    """

    def __init__(self, domain: str = "item") -> None:
        environment = template_environment()
        try:
            self._item = environment.get_template(f"{domain}.item.j2")
            self._user = environment.get_template(f"{domain}.user.j2")
        except TemplateNotFound as error:
            known = ", ".join(sorted(path.name.removesuffix(".item.j2") for path in _TEMPLATES.glob("*.item.j2")))
            raise ConfigurationError(f"domain: expected one of {known}, got {domain!r}; choose one of them") from error

    def write(self, entity: Literal["user", "item"], fields: Mapping[str, object]) -> str | None:
        """Return a summary in one line, or None if no field has content.

        Args:
            entity: Whether the fields describe a user or an item.
            fields: Text, numbers or sequences of text by name.
        """
        template = self._user if entity == "user" else self._item
        return " ".join(template.render(clean_fields(fields)).split()) or None


@functools.cache
def template_environment() -> ImmutableSandboxedEnvironment:
    """Return the Jinja environment of all templates: missing fields are empty, and fields are never templates."""
    environment = ImmutableSandboxedEnvironment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=False,  # plain text for a text encoder, not HTML
        undefined=ChainableUndefined,  # a missing field and its slices are empty
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(listing=listing, clip=clip)
    return environment


def clean_fields(fields: Mapping[str, object]) -> dict[str, object]:
    """Return the fields with content, without trademark signs and superfluous white space."""
    return {name: value for name, value in ((key, _clean(raw)) for key, raw in fields.items()) if value}


def listing(values: Sequence[str] | object) -> str:
    """Return an enumeration such as "a, b and c"; "" for anything but a list or tuple."""
    words = [str(value) for value in values] if isinstance(values, list | tuple) else []
    return " and ".join(filter(None, (", ".join(words[:-1]), *words[-1:])))


def clip(value: object, words: int) -> str:
    """Return at most `words` words, up to the end of a sentence if one ends in the second half."""
    parts = str(value).split()
    if len(parts) <= words:
        return " ".join(parts)
    text = " ".join(parts[:words])
    end = max(text.rfind(mark) for mark in (". ", "! ", "? "))
    return text[: end + 1] if end >= len(text) // 2 else text.rstrip(",;:-") + "…"


def short_title(title: str, words: int = 7) -> str:
    """Return a title without parenthesised parts and without a long subtitle."""
    plain = " ".join(re.sub(r"\([^()]*\)", " ", title).split()) or title
    if len(plain.split()) > words:
        plain = re.split(r"[:;]\s|\s-\s", plain)[0]
    return " ".join(plain.split()[:words]).rstrip(",;:-")


def _clean(value: object) -> object:
    """Remove trademark signs and collapse white space; empty texts and sequences become None."""
    if isinstance(value, str):
        return " ".join(re.sub("[™®©]", "", value).split()) or None
    if isinstance(value, Mapping):
        return clean_fields(value) or None
    if isinstance(value, list | tuple):
        return [cleaned for cleaned in map(_clean, value) if cleaned] or None
    return value
