import json

import numpy as np
import pytest

from face_lightning.data.interactions import Interactions
from face_lightning.data.readers.records import read_records, write_profiles
from face_lightning.errors import DataError

RECORDS = [
    {"title": "Alpha", "genres": ["War"], "tags": ["war", "Epic"], "developer": "One,Two"},
    {"title": "Beta", "genres": ["War"]},
    {"title": "Gamma", "genres": ["War"]},
    {"title": "Delta", "tags": ["Puzzle"]},
    {"title": "Eta", "tags": ["Puzzle"]},
    {"title": None, "tags": ["Puzzle"]},
    {"title": None, "categories": None},
]


def interactions(valid, test, num_items=7):
    """The training items of user 0 are the first three, those of user 1 the others."""
    items = np.arange(num_items)
    train = ((items >= num_items // 2).astype(int), items)
    ids = [f"i{item}" for item in items]
    return Interactions.from_coordinates(train, valid, test, name="x", user_ids=["ann", "bob"], item_ids=ids)


def pair(user, item):
    return np.array([user]), np.array([item])


def test_texts_by_hand():
    profiles = write_profiles(interactions(pair(0, 3), pair(1, 0)), RECORDS, "game")
    assert profiles.item_texts == (
        "Alpha, war and epic game by One.",
        "Beta, war game.",
        "Gamma, war game.",
        "Delta, puzzle game.",
        "Eta, puzzle game.",
        "puzzle game.",
        None,
    )
    assert profiles.user_texts == (
        "Player who loves war games such as Beta, Gamma and Alpha.",
        "Player who loves puzzle games such as Delta and Eta.",
    )
    assert profiles.item_labels == ("Alpha", "Beta", "Gamma", "Delta", "Eta", "i5", "i6")
    assert profiles.user_labels == ("ann", "bob")
    assert profiles.domain == "game"


def test_texts_do_not_depend_on_validation_and_test():
    one = write_profiles(interactions(pair(0, 3), pair(1, 0)), RECORDS, "game")
    other = write_profiles(interactions(pair(1, 1), pair(0, 4)), RECORDS, "game")
    assert one.user_texts == other.user_texts
    assert one.item_texts == other.item_texts


def test_city_authors_and_facts_reach_the_users_text():
    split = interactions(pair(0, 2), pair(1, 0), num_items=4)
    places = [{"title": f"P{item}", "city": city} for item, city in enumerate(("Rome", "Rome", "Oslo", "Oslo"))]
    assert write_profiles(split, places, "restaurant").user_texts[1] == (
        "Guest in Oslo who loves places such as P2 and P3."
    )
    books = [{"title": f"B{item}", "author": f"A{item // 2}"} for item in range(4)]
    assert write_profiles(split, books, "book").user_texts[0] == (
        "Reader who loves books such as B0 and B1, and the author A0."
    )
    films = [{"title": f"F{item}"} for item in range(4)]
    facts = [{"age": "adult", "occupation": "writer"}, {}]
    assert write_profiles(split, films, "movie", facts).user_texts == (
        "Viewer who loves movies such as F0 and F1. adult, writer.",
        "Viewer who loves movies such as F2 and F3.",
    )


def test_records_by_item_and_blank_lines(tmp_path):
    path = tmp_path / "items.jsonl"
    path.write_text('{"item_id": 2, "title": "c\\u2028d"}\n\n{"item_id": 0, "title": "a"}\n')
    records = read_records(path, 3)
    assert [record.get("title") for record in records] == ["a", None, "c\u2028d"]


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "[]",
        "7",
        json.dumps({"title": "x"}),
        json.dumps({"item_id": 3}),
        json.dumps({"item_id": -1}),
        json.dumps({"item_id": "1"}),
        json.dumps({"item_id": True}),
        json.dumps({"item_id": 0}),
        "\ufffe\x00",
    ],
)
def test_invalid_lines_raise(tmp_path, line):
    path = tmp_path / "items.jsonl"
    path.write_text(json.dumps({"item_id": 0, "title": "a"}) + "\n" + line + "\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"jsonl, line 2: expected .* item_id below 3, got: .*; correct") as raised:
        read_records(path, 3)
    assert "\n" not in str(raised.value)


def test_invalid_utf8_and_missing_files_raise(tmp_path):
    (tmp_path / "items.jsonl").write_bytes(b'{"item_id": 0, "title": "\xff"}')
    with pytest.raises(DataError, match="line 1"):
        read_records(tmp_path / "items.jsonl", 3)
    with pytest.raises(DataError, match=r"none\.jsonl: .*check item_metadata"):
        read_records(tmp_path / "none.jsonl", 3)
