"""Tests of the parsing of metadata values."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from face_lightning.data.plain_values import names_in, parsed, whole_number, without_markup, year_in

TEXTS = {
    "<p>A <b>toy</b>.</p><p>B</p>": "A toy. B",
    "<a href='http://x/y?click=1' onclick=\"click()\">Toy</a>": "Toy",
    "&lt;b&gt;Toy&lt;/b&gt; &amp; Co": "Toy & Co",
    "<!-- click --> Toy <style>b {color: red}</style>": "Toy",
    "1 < 2 and 3 > 2, <3, AT&T, R&D;": "1 < 2 and 3 > 2, <3, AT&T, R&D;",
    "<Untitled>": "<Untitled>",
    "&#72;&#x69;": "Hi",
    "<script>never closed": "never closed",
    "Film \ud800": "Film ?",
}


@pytest.mark.parametrize("text", TEXTS)
def test_markup_is_removed(text: str) -> None:
    assert " ".join(without_markup(text).split()) == TEXTS[text]


@given(st.text(alphabet="<>/!-&;#bpscriptyle ='\"", max_size=60))
def test_arbitrary_texts_are_read(text: str) -> None:
    assert len(without_markup(text)) <= len(text) + 9


@pytest.mark.parametrize(
    ("repeated", "left"), [("<script>", ""), ("<!--", "<!--"), ("<b", "<b"), ("&amp;", "&"), ("<style></style>", "")]
)
def test_long_texts_take_linear_time(repeated: str, left: str) -> None:
    """With quadratic time in the length, these would take minutes."""
    assert without_markup(repeated * 100_000).strip() == left * 100_000


@pytest.mark.parametrize(
    "date",
    ["1990", "1990.0", "1990-03-01", "01/03/1990", "1 Mar 1990", "Mar 1, 1990", "19900301", "1990-03-01T00:00:00Z"],
)
def test_years_of_dates(date: str) -> None:
    assert year_in(date) == "1990"


def test_numbers_that_are_not_years() -> None:
    assert [year_in(text) for text in ("", "12345", "soon", "0090")] == [""] * 4
    assert [whole_number(value) for value in (1990.0, "1990.0", "1990.5", 2.5, "x")] == [
        1990,
        "1990",
        "1990.5",
        2.5,
        "x",
    ]


@pytest.mark.parametrize(
    ("value", "names"),
    [
        ("['War', 'Love']", ["War", "Love"]),
        ('[{"id": 1, "name": "War"}, {"id": 2, "name": "Love"}]', ["War", "Love"]),
        ("{'War': 3, 'Love': True, 'Toy': 0, 'Sea': None}", ["War", "Love"]),
        ([{"Name": "War"}], ["War"]),
        ([("War", 3), ("Love", 1)], ["War", "Love"]),
        ("('War', nan)", ["('War', nan)"]),
        (["War", "War", None, "N/A", float("nan"), "(no genres listed)"], ["War"]),
        ("[" * 5000 + "]" * 5000, ["[" * 5000 + "]" * 5000]),
    ],
)
def test_names_in_lists_and_mappings(value: object, names: list[str]) -> None:
    assert names_in([parsed(value)] if isinstance(parsed(value), str) else parsed(value)) == names
