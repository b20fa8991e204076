import io
import json

import pytest
from rich.console import Console

from face_lightning.plain_text import as_markdown, as_text, escape_json, printable, whole

HOSTILE = [
    *(
        "\x1b[31mred",
        "\x1b]8;;http://evil\x07link\x1b]8;;\x07",
        "\x9b2J",
        "\x07",
        "a\rb",
        "\u202egnp.exe",
        "\u2066x\u2069",
    ),
    *("[bold]b[/bold]", "[link=http://evil]x[/link]", "[/nothing]", "\ud800", "a\\[b]"),
]


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_text_is_shown_as_text(text: str) -> None:
    out = io.StringIO()
    Console(file=out, force_terminal=True, width=200, color_system="truecolor").print(as_text(text), highlight=False)
    shown = out.getvalue()
    assert shown == printable(text) + "\n"
    assert not set(shown[:-1]) & {*map(chr, range(32)), *map(chr, range(127, 160)), "\u202e", "\u2066"}
    shown.encode()


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_json_means_the_same(text: str) -> None:
    line = escape_json(json.dumps({"a": text}, ensure_ascii=False))
    assert json.loads(line) == {"a": text}
    assert printable(line) == line


def test_other_scripts_are_unchanged() -> None:
    assert printable("Véronique (1991) 映画 🎬") == "Véronique (1991) 映画 🎬"


def test_markdown_and_html_are_escaped() -> None:
    assert as_markdown("<img src=x> [a](http://b) | **c**") == (r"&lt;img src=x&gt; \[a\]\(http://b\) \| \*\*c\*\*")
    assert as_markdown("\x1b[2J") == "\ufffd\\[2J"
    assert whole("Film \ud800") == "Film ?"
