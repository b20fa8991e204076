import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from face_lightning.data.profiles import DOMAINS
from face_lightning.text.writing.prompts import AnswerError, Prompts
from face_lightning.text.writing.writer import NOTHING_KNOWN, Request, TemplateSummaries

FILM = Request(
    "item", "1", {"title": "Heat", "year": "1995", "tags": ["Crime", "Drama"], "profile": "A thief.\nA cop."}
)
VIEWER = Request(
    "user",
    "7",
    {"favourites": ("War",), "items": [{"title": "Platoon", "year": "1986", "tags": ["War"], "profile": "Two men."}]},
)
TEXT = "People who enjoy tense stories about crime."


@pytest.mark.parametrize("domain", DOMAINS)
@pytest.mark.parametrize("answer", ["json", "text"])
def test_facts_come_before_the_question(domain, answer):
    system, user = Prompts(domain, answer).messages(FILM)
    assert (system["role"], user["role"]) == ("system", "user")
    facts, question = user["content"].split("\n\n")
    assert facts == "Title: Heat (1995)\nTags: Crime and Drama\nDescription: A thief. A cop."
    assert f"enjoy this {domain}" in question
    assert ('"summarization"' in question) is (answer == "json")


def test_user_prompt_lists_training_items():
    (_, user) = Prompts("movie").messages(VIEWER)
    assert user["content"].startswith("Favourite tags: War\nThe user chose:\n- Platoon (1986): War. Two men.\n\n")


@pytest.mark.parametrize("kind", ["user", "item"])
def test_entities_without_facts_are_not_asked_about(kind):
    request = Request(kind, "1", {"title": " ", "tags": [], "items": [], "favourites": None})
    assert Prompts("movie").messages(request) is None
    assert Prompts("movie").key(request) is None
    ((_, summary),) = TemplateSummaries("movie").write([request])
    assert (summary.text, summary.error) == (None, NOTHING_KNOWN)


def test_keys_depend_on_the_messages():
    assert Prompts("movie").key(FILM) == Prompts("movie").key(Request("item", "2", FILM.fields))
    assert Prompts("movie").key(FILM) != Prompts("game").key(FILM)
    identities = {Prompts(domain, form, 40).identity for domain in ("movie", "game") for form in ("json", "text")}
    assert len(identities | {Prompts("movie", "json", 41).identity}) == 5


@pytest.mark.parametrize(
    "answer",
    [
        json.dumps({"reasoning": "x", "summarization": TEXT}),
        f'Sure! Here it is:\n```json\n{{"summarization": "{TEXT}"}}\n```\nAnything else?',
        '<think>{"summarization": 1}</think>{"summarization": "People who enjoy\ntense stories about crime."}',
    ],
)
def test_json_answers_are_read(answer):
    assert Prompts("movie", "json").read(answer, FILM) == TEXT


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (None, "not text but NoneType"),
        (["x"], "not text but list"),
        ("", "no JSON object"),
        (TEXT, "no JSON object"),
        ('{"summarization": "People who', "damaged JSON"),
        ('{"profile": "People who enjoy"}', 'no text in "summarization"'),
        ('{"summarization": null}', 'no text in "summarization"'),
        ('{"summarization": "- !"}', "fewer than 3 words"),
        ('{"a":' * 100_000, "damaged JSON"),
        (json.dumps({"summarization": "A sad sad man. " * 9}), "repeats itself"),
        (
            json.dumps({"summarization": "Heat (1995), Crime and Drama. Description: A thief. A cop."}),
            "repeats the facts",
        ),
    ],
)
def test_json_answers_without_a_summary_are_errors(answer, reason):
    with pytest.raises(AnswerError, match=reason):
        Prompts("movie", "json").read(answer, FILM)


def test_plain_answers_are_cut_to_whole_sentences():
    prompts = Prompts("movie", "text", max_words=8)
    assert prompts.read(f' "{TEXT}" ', FILM) == TEXT
    assert prompts.read(f"{TEXT} And those who", FILM) == TEXT
    assert prompts.read("one two three four five six seven eight nine ten eleven twelve thirteen", FILM).endswith(
        "twelve…"
    )


@given(st.sampled_from(["json", "text"]), st.text() | st.none() | st.integers())
def test_answers_give_one_clean_line_or_an_error(form, answer):
    with contextlib.suppress(AnswerError):
        text = Prompts("movie", form).read(answer, VIEWER)
        assert text == " ".join(text.split())
        assert len(text.split()) >= 1
