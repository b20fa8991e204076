"""Text from data as terminals show it: as text, and never as markup, colours, links or other writing directions."""

import html
import re

# Controls of terminals (C0, DEL, C1), marks and overrides of the writing direction, and lone surrogates.
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    """`text` in one line, white space as spaces, other controls as U+FFFD."""
    return _CONTROLS.sub(lambda found: " " if found[0] in "\t\n\v\f\r\u2028\u2029" else "\ufffd", text)


def as_text(text: str) -> str:
    """`printable(text)` for what rich prints: its markup shows as it is written."""
    from rich.markup import escape  # the command line reports mistakes without rich

    return escape(printable(text))


def as_markdown(text: str) -> str:
    """`printable(text)` for what is shown as Markdown or HTML: neither has an effect in it."""
    return re.sub(r"([\\`*_{}\[\]()#+!|~-])", r"\\\1", html.escape(printable(text)))


def whole(text: str) -> str:
    """`text` with `?` in place of lone surrogates, which JSON can hold and UTF-8 cannot."""
    return text.encode("utf-8", "replace").decode()


def escape_json(text: str) -> str:
    """JSON in one line, with its control characters escaped."""
    return _CONTROLS.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
