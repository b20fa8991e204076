"""Escaping of untrusted text, so that it is never shown as markup, colours, links or bidirectional overrides."""

import html
import re

# Control characters (C0, DEL, C1), line separators, bidirectional controls, and lone surrogates.
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    """`text` on one line, with white space replaced by spaces, and other control characters by U+FFFD."""
    return _CONTROLS.sub(lambda found: " " if found[0] in "\t\n\v\f\r\u2028\u2029" else "\ufffd", text)


def as_text(text: str) -> str:
    """`printable(text)`, escaped for rich, so that markup in it is shown literally."""
    from rich.markup import escape  # so that printing an error does not import rich

    return escape(printable(text))


def as_markdown(text: str) -> str:
    """`printable(text)`, escaped for Markdown and HTML."""
    return re.sub(r"([\\`*_{}\[\]()#+!|~-])", r"\\\1", html.escape(printable(text)))


def whole(text: str) -> str:
    """`text` with lone surrogates, which JSON can contain but UTF-8 cannot encode, replaced by `?`."""
    return text.encode("utf-8", "replace").decode()


def escape_json(text: str) -> str:
    """Escape the control characters of a JSON text in one line."""
    return _CONTROLS.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
