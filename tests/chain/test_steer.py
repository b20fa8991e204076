"""Steering a run of the three stages: what it keeps, and phrases outside its vocabulary."""

import shutil
from pathlib import Path

import pytest
import torch

from face_lightning.errors import DataError
from face_lightning.recommending.recommender import Recommender
from face_lightning.runs.kept_meanings import MEANINGS, read_meanings
from tests.chain.tiny import WORDS, World, face


def test_a_finished_run_is_steered_by_words_and_phrases(chain: World) -> None:
    recommender = Recommender.load(chain.run("stage3"))
    steered = recommender.steer("u0", more=["robot", "Ocean ship"], less=["love"], k=5)
    assert steered.more["robot"] == ["robot"]
    assert len(steered.more["Ocean ship"]) == 3
    assert set(steered.more["Ocean ship"]) <= set(read_meanings(chain.run("stage3")).words)
    assert len(steered.ids) == 5


def test_meanings_of_an_earlier_version_s_run_are_computed_once(chain: World, tmp_path: Path) -> None:
    run = shutil.copytree(chain.run("stage2"), tmp_path / "run")
    kept = read_meanings(run)
    (run / MEANINGS).unlink()
    again = read_meanings(run)
    assert (run / MEANINGS).is_file()
    assert again.words == kept.words
    assert again.item_vectors.equal(kept.item_vectors)


def test_a_new_item_gets_words_an_embedding_users_and_similar_items_from_its_text(chain: World) -> None:
    recommender = Recommender.load(chain.run("stage3"))
    item = recommender.cold_start("Film 1, love, music and ship movie.", k=4)
    assert len(item.words) == 4  # as many as other items have
    assert set(item.words) <= set(WORDS)
    assert item.embedding.shape == (16,)
    cosines = torch.cosine_similarity(recommender.embeddings().items, item.embedding, dim=1)
    assert item.item_scores.tolist() == pytest.approx(sorted(cosines.tolist(), reverse=True)[:4], rel=1e-5)
    assert item.item_ids[0] == f"i{int(cosines.argmax())}"
    scores = recommender.embeddings().users @ item.embedding
    assert item.user_scores.tolist() == pytest.approx(sorted(scores.tolist(), reverse=True)[:4], rel=1e-5)


def test_new_items_are_ranked_with_the_others(chain: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recommender = Recommender.load(chain.run("stage3"))
    text = "Film 1, love, music and ship movie."
    extended = recommender.with_items({"new": text, "i3": "Film 3, war and crime movie."}, {"new": "Newcomer"})
    assert extended.embeddings().items.shape == (31, 16)
    assert torch.allclose(extended.embeddings().items[30], recommender.cold_start(text).embedding)
    assert not torch.allclose(extended.embeddings().items[3], recommender.embeddings().items[3])
    assert torch.equal(extended.embeddings().items[4], recommender.embeddings().items[4])
    best = extended.recommend(["u1"], k=31, filter_seen=None)
    assert "new" in best.ids
    assert extended.describe(items=["new"])[0].label == "Newcomer"
    assert len(extended.describe(items=["new"])[0].words) == 4
    assert "new" in extended.steer(None, more=["love"], k=31).ids
    with pytest.raises(DataError, match="texts: expected a text of every new item"):
        recommender.with_items({"new": " "})

    file = tmp_path / "new.jsonl"
    file.write_text('{"item_id": "new", "title": "Newcomer", "genres": ["love", "music"]}\n')
    options = ["--run", str(chain.run("stage3")), "--new_items", str(file), "--allow", "new", "i0"]
    assert face("recommend", *options, "--users", "u1", "--filter_seen", "none") == 0
    assert "Newcomer" in capsys.readouterr().out
    assert face("describe", "--run", chain.run("stage3"), "--text", text) == 0
    assert "similar item" in capsys.readouterr().out
    file.write_text('{"item_id": "new"}\n')
    assert face("recommend", *options, "--users", "u1") == 2
    assert "item new has no text" in capsys.readouterr().err
