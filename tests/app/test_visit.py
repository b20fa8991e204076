"""Search, changes of words and the resulting recommendations, on a run of five items that can be ranked by eye."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from face_lightning.app.entity_map import draw_map
from face_lightning.app.explorer import Explorer
from face_lightning.app.visit import Visit
from face_lightning.errors import DataError
from face_lightning.recommending.recommender import Recommender
from tests.recommending.test_recommender import NAMES, write_run
from tests.recommending.test_steering import write_meanings

WORDS = {"10": ["war", "toy"], "20": ["war"], "30": ["sea"], "40": ["sea", "love"], "50": ["love"]}


@pytest.fixture
def explorer(tmp_path: Path) -> Explorer:
    run = write_meanings(write_run(tmp_path / "run"))
    users = [("user", "ann", "Ann", ["war"]), ("user", "bob", "Bob", ["love"]), ("user", "7", "Zoë", ["sea"])]
    items = [("item", one, name, WORDS[one]) for one, name in zip(WORDS, NAMES, strict=True)]
    rows = [
        {"kind": kind, "id": one, "label": name, "words": words, "text": f"About {name}\u202e."}
        for kind, one, name, words in [*users, *items]
    ]
    pq.write_table(pa.Table.from_pylist(rows), run / "descriptors.parquet")
    return Explorer(Recommender.load(run), "films")


def test_search_finds_ids_beginnings_and_parts_without_case_and_accents(explorer: Explorer) -> None:
    assert [found.label for found in explorer.search("item", "a")] == ["Alien", "Blade", "Cats", "Emma"]
    assert [found.label for found in explorer.search("item", "50")] == ["Emma"]
    assert [found.id for found in explorer.search("user", "ZOE")] == ["7"]
    assert explorer.search("item", "a", limit=1)[0].words == ["war", "toy"]
    assert explorer.search("item", " ") == []
    assert explorer.search("item", "nobody") == []


def test_texts_and_suggestions(explorer: Explorer) -> None:
    assert explorer.text("item", "10") == "About Alien\ufffd."
    assert explorer.text("user", "7") == "About Zoë\ufffd."
    assert explorer.vocabulary == ["war", "sea", "love", "toy"]
    assert explorer.suggest(" S") == ["sea"]
    assert explorer.suggest("") == []


def test_recommendations_equal_those_of_the_recommender_and_name_shared_words(explorer: Explorer) -> None:
    visit = Visit(explorer)
    visit.open("user", ["ann"])
    rows = visit.recommend()
    assert [row.item.id for row in rows] == explorer.recommender.recommend(["ann"], 2).ids[0].tolist()
    visit.open("user", ["bob"])  # has Emma (50) and tests Dune (40)
    rows = visit.recommend()
    assert [(row.item.id, row.rank, row.before) for row in rows] == [("30", 1, 1), ("20", 2, 2), ("10", 3, 3)]
    assert visit.own_words == ["love"]
    visit.change("war", 1)
    assert visit.words() == ["war", "love"]
    assert {row.item.id: row.shared for row in visit.recommend()} == {"30": [], "20": ["war"], "10": ["war"]}


def test_words_change_the_ranking_and_can_be_reset(explorer: Explorer) -> None:
    visit = Visit(explorer, strength=0.9)
    visit.open("user", ["bob"])
    visit.change("war", 9)
    assert visit.weights == {"war": 3}
    assert [(row.item.id, row.before) for row in visit.recommend()] == [("10", 3), ("20", 2), ("30", 1)]
    visit.change("war", -1)
    assert [row.item.id for row in visit.recommend()] == ["30", "20", "10"]
    visit.change("war", 0)
    assert visit.weights == {}
    with pytest.raises(DataError, match="word: no user or item has the word 'sun'"):
        visit.change("sun", 1)
    with pytest.raises(DataError, match="item: 99 is not in this run"):
        visit.open("item", ["99"])


def test_new_visitors_begin_with_items_or_words(explorer: Explorer) -> None:
    visit = Visit(explorer)
    assert visit.recommend() == []
    visit.change("love", 1)
    best = visit.recommend(2)
    assert [row.item.id for row in best] == ["50", "40"]
    assert [row.before for row in best] == [None, None]
    visit.open("new", ["10"])
    assert visit.own_words == []  # this run has no mapper
    assert [row.item.id for row in visit.recommend(1)] == ["20"]
    visit.open("item", ["10"])
    assert [other.label for other in visit.neighbours()[:2]] == ["Blade", "Cats"]
    visit.open("user", ["ann"])
    assert [other.label for other in visit.neighbours()] == ["Zoë", "Bob"]


def test_the_map_places_items_and_concentrated_words() -> None:
    draws = np.random.default_rng(0)
    centers = np.repeat(np.eye(3), 20, axis=0)
    items = torch.from_numpy((centers + 0.05 * draws.standard_normal((60, 3))).astype(np.float32))
    words = pa.array([[("war", "sea", "love")[row // 20], "film"] for row in range(60)])
    found = draw_map(items, np.arange(60), words, ["film", "war", "sea", "love"])
    assert found.rows.tolist() == list(range(59, -1, -1))
    assert sorted(found.words) == ["love", "sea", "war"]  # films are everywhere
    for word, place in zip(found.words, found.word_places, strict=True):
        nearest = found.rows[np.linalg.norm(found.places - place, axis=1).argmin()]
        assert word == ("war", "sea", "love")[nearest // 20]
