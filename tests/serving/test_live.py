"""Workers of a run share cached files, which are removed when the run changes."""

from pathlib import Path

from face_lightning.recommending.recommender import Recommender
from face_lightning.runs.inference import write_embeddings
from face_lightning.serving.live import LiveRecommender
from face_lightning.structures import Embeddings
from tests.recommending.test_recommender import ITEMS, USERS, write_run


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
