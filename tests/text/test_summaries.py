import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from face_lightning.data.profiles import DOMAINS
from face_lightning.errors import ConfigurationError
from face_lightning.text.summaries import TemplateWriter, clip, listing, short_title

TEXT = st.text(string.ascii_letters + " \n\t{}%#", max_size=20)


@pytest.mark.parametrize(
    ("domain", "entity", "fields", "expected"),
    [
        (
            "movie",
            "item",
            {"title": "Heat", "year": "1995", "tags": ["Crime", "Drama"]},
            "Heat (1995), crime and drama movie.",
        ),
        ("movie", "item", {"tags": ["Crime"]}, "crime movie."),
        (
            "movie",
            "user",
            {"favourites": ["War"], "titles": ["Platoon", "Patton"]},
            "Viewer who loves war movies such as Platoon and Patton.",
        ),
        ("movie", "user", {"favourites": ["War"]}, "Viewer who loves war movies."),
        ("game", "item", {"title": "RAGE™", "tags": ["FPS"], "developer": "id"}, "RAGE, fps game by id."),
        ("book", "item", {"title": "Emma", "author": "Jane Austen"}, "Emma by Jane Austen."),
        ("book", "item", {"tags": ["Romance"]}, "A romance book."),
        (
            "book",
            "user",
            {"titles": ["Emma"], "authors": ["A", "B"]},
            "Reader who loves books such as Emma, and the authors A and B.",
        ),
        (
            "restaurant",
            "item",
            {"title": "Roma", "city": "Reno", "tags": ["Pizza"], "profile": "Fans of\npizza."},
            "Roma in Reno, pizza. Fans of pizza.",
        ),
        ("restaurant", "user", {"city": "Reno", "favourites": ["Pizza"]}, "Guest in Reno who loves pizza."),
        ("item", "item", {"title": "Thing", "tags": ["a", "b", "c"]}, "Thing, a, b and c."),
        ("item", "user", {"favourites": ["tea"], "titles": ["Pot"]}, "Somebody who loves tea, such as Pot."),
        ("item", "user", {"titles": ["Pot"]}, "Somebody who loves Pot."),
    ],
)
def test_sentences_by_hand(domain, entity, fields, expected):
    assert TemplateWriter(domain).write(entity, fields) == expected


@pytest.mark.parametrize("entity", ["user", "item"])
@pytest.mark.parametrize("domain", DOMAINS)
def test_no_facts_give_no_summary_in_every_domain(domain, entity):
    writer = TemplateWriter(domain)
    for fields in (
        {},
        {"title": None, "tags": [], "titles": (), "profile": " \n"},
        {"tags": [""], "city": "Reno"},
    ):
        assert writer.write(entity, fields) is None


def test_unknown_domain_lists_the_known_ones():
    with pytest.raises(
        ConfigurationError, match="domain: expected one of book, game, item, movie, restaurant, got 'film'"
    ):
        TemplateWriter("film")


@given(st.sampled_from(DOMAINS), st.sampled_from(["user", "item"]), TEXT, st.lists(TEXT, max_size=9), TEXT)
def test_summaries_are_one_clean_line(domain, entity, title, values, profile):
    fields = {"title": title, "tags": values, "favourites": values, "titles": values, "authors": values}
    text = TemplateWriter(domain).write(entity, fields | {"profile": profile, "city": title})
    assert text is None or (text and text == " ".join(text.split()))
    if title.strip() and entity == "item":
        assert " ".join(title.split()) in text


def test_fields_are_text_and_never_templates():
    text = TemplateWriter("movie").write("item", {"title": "{{ 7 * 7 }} {% for x in y %}"})
    assert text == "{{ 7 * 7 }} {% for x in y %}."


def test_listing():
    assert [listing(["a", "b", "c"]), listing(("a", "b")), listing(["a"]), listing([]), listing("ab")] == [
        "a, b and c",
        "a and b",
        "a",
        "",
        "",
    ]


@pytest.mark.parametrize(
    ("text", "words", "expected"),
    [
        ("one two three", 3, "one two three"),
        ("one, two, three", 2, "one, two…"),
        ("One two. Three four.", 3, "One two."),
        ("A. one two three four", 4, "A. one two three…"),
    ],
)
def test_clip_ends_with_a_sentence_or_an_ellipsis(text, words, expected):
    assert clip(text, words) == expected


@pytest.mark.parametrize(
    ("title", "expected"),
    [
        ("Shanghai Triad (Yao a yao)", "Shanghai Triad"),
        ("Emma", "Emma"),
        ("(500)", "(500)"),
        ("Hyperbole and a Half: Unfortunate Situations, Flawed Coping Mechanisms", "Hyperbole and a Half"),
        ("one two three four five six seven eight", "one two three four five six seven"),
        ("Lost World: Jurassic Park", "Lost World: Jurassic Park"),
    ],
)
def test_short_titles(title, expected):
    assert short_title(title) == expected
