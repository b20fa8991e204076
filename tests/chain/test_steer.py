"""Steering a run of the three stages: what it keeps, and phrases outside its vocabulary."""

import shutil
from pathlib import Path

from face_lightning.recommender import Recommender
from face_lightning.runs.kept_meanings import MEANINGS, read_meanings
from tests.chain.tiny import World


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
