"""Workers of a run share cached files, which are removed when the run changes; the old run's objects are freed."""

import gc
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest

from face_lightning.recommending.recommender import Recommender
from face_lightning.runs.inference import write_embeddings
from face_lightning.serving.live import LiveRecommender, freeze_objects
from face_lightning.structures import Embeddings
from tests.recommending.test_recommender import ITEMS, USERS, write_run


@pytest.fixture(autouse=True)
def unfrozen() -> Iterator[None]:
    yield
    gc.unfreeze()


def test_workers_share_only_the_files_of_the_current_run(tmp_path: Path) -> None:
    run, shared = write_run(tmp_path / "run"), tmp_path / "shared"
    workers = [LiveRecommender(run, shared=shared) for _ in range(2)]
    (first,) = shared.iterdir()
    write_embeddings(run, Embeddings(USERS, ITEMS.flip(0)), "f" * 64)
    for worker in workers:
        assert worker.reload()
        found = worker.current.similar_items(["10"], 4)
        expected = Recommender.load(run).similar_items(["10"], 4)
        assert (found.ids.tolist(), found.scores.tolist()) == (expected.ids.tolist(), expected.scores.tolist())
    (second,) = shared.iterdir()
    assert first != second


def test_a_reload_frees_the_old_run_and_freezes_the_new_one(tmp_path: Path) -> None:
    live = LiveRecommender(write_run(tmp_path / "run"))
    freeze_objects()
    cycle = [live.current]
    cycle.append(cycle)  # type: ignore[arg-type]
    old = weakref.ref(live.current)
    del cycle
    gc.freeze()
    assert live.reload(force=True)
    assert old() is None
    assert gc.get_freeze_count() > 0
    assert not any(one is live.current for one in gc.get_objects())
