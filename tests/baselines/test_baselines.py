"""Tests of baselines by hand and against naive implementations, and of their evaluation."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array

from face_lightning.baselines import EASE, Baseline, ItemKNN, Popularity
from face_lightning.baselines.evaluation import BaselineRanker, evaluate
from face_lightning.data.sampling import EvaluationLoader
from face_lightning.errors import ConfigurationError
from face_lightning.ranking import Ranker, find_hits
from face_lightning.structures import Embeddings

TRAIN = np.array([[1, 1, 0, 0], [1, 1, 1, 0], [0, 0, 1, 0]], dtype=np.float32)
every_baseline = pytest.mark.parametrize("kind", [Popularity, ItemKNN, EASE])


def fitted(baseline: Baseline, train: np.ndarray = TRAIN) -> np.ndarray:
    matrix = csr_array(train)
    baseline.fit(matrix)
    return baseline.score(matrix).numpy()


def checkerboard(size: int = 12) -> np.ndarray:
    """Even users have even items and odd users odd ones, except for one missing item each."""
    cells = (np.add.outer(np.arange(size), np.arange(size)) % 2 == 0).astype(np.float32)
    np.fill_diagonal(cells, 0)
    return cells


def test_popularity_is_the_same_for_all_users() -> None:
    assert fitted(Popularity()).tolist() == [[2.0, 2.0, 2.0, 0.0]] * 3


def test_cosine_neighbours_by_hand() -> None:
    # Items 0 and 1 have users {0, 1}, item 2 has {1, 2}: cosines 1 and 1/2. Item 3 has none.
    assert fitted(ItemKNN("cosine", 3)) == pytest.approx(np.array([[1, 1, 1, 0], [1.5, 1.5, 1, 0], [0.5, 0.5, 0, 0]]))


def test_one_neighbour() -> None:
    scores = fitted(ItemKNN("cosine", 1))
    assert scores[0] == pytest.approx([1, 1, 0, 0])  # item 2 is not the nearest neighbour of any item


def test_weights_of_tf_idf_and_bm25_by_hand() -> None:
    idf = np.maximum(np.log(4 / (1 + TRAIN.sum(1))), 0)  # users are the terms of items
    rows = TRAIN.T * idf
    unit = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    lengths = TRAIN.sum(0)
    bm25 = rows * (2.2 / (1.2 * (0.25 + 0.75 * lengths / lengths.mean()) + 1))[:, None]
    for weighting, weighted in (("tf-idf", unit), ("bm25", bm25)):
        similarity = weighted @ weighted.T
        np.fill_diagonal(similarity, 0)
        assert fitted(ItemKNN(weighting, 4)) == pytest.approx(TRAIN @ similarity, abs=1e-6)


def test_tiles_do_not_change_the_neighbours() -> None:
    train = csr_array((np.random.default_rng(0).random((50, 23)) < 0.2).astype(np.float32))
    whole, tiled = ItemKNN("bm25", 5), ItemKNN("bm25", 5)
    whole.fit(train)
    tiled.fit(train, tile_size=7)
    assert torch.equal(whole.score(train), tiled.score(train))


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 1000), st.floats(0.5, 100))
def test_ease_equals_least_squares_per_item(seed: int, l2: float) -> None:
    train = (np.random.default_rng(seed).random((12, 7)) < 0.4).astype(np.float64)
    weights = np.zeros((7, 7))
    for item in range(7):  # equivalent: ridge regression on the other items, per column
        others = [other for other in range(7) if other != item]
        rows = train[:, others]
        weights[others, item] = np.linalg.solve(rows.T @ rows + l2 * np.eye(6), rows.T @ train[:, item])
    assert fitted(EASE(l2), train.astype(np.float32)) == pytest.approx(train @ weights, abs=1e-4)


@pytest.mark.parametrize("kind", [ItemKNN, EASE])
def test_a_checkerboard_is_completed(kind: type[Baseline]) -> None:
    scores = fitted(kind(), checkerboard())
    assert (np.where(checkerboard() > 0, -np.inf, scores).argmax(1) == np.arange(12)).all()


def test_ease_above_the_memory_limit_raises() -> None:
    with pytest.raises(ConfigurationError, match=r"memory_gib: expected at least 111\.8 for EASE on 100,000 items"):
        EASE().fit(csr_array((2, 100_000), dtype=np.float32))
    with pytest.raises(ConfigurationError, match="l2: expected more than 0, got 0"):
        EASE(0)
    with pytest.raises(ConfigurationError, match="num_neighbors: expected at least 1, got 0"):
        ItemKNN(num_neighbors=0)


@every_baseline
def test_every_setting_of_the_grid_is_valid(kind: type[Baseline]) -> None:
    for setting in kind.grid:
        assert np.isfinite(fitted(kind(**setting))).all()


class Dots(Baseline):
    """Baseline that scores by dot products of given embeddings, as stages do."""

    def __init__(self, embeddings: Embeddings) -> None:
        self.embeddings = embeddings

    def fit(self, train: csr_array) -> None:
        self.train = train.toarray().tolist()

    def score(self, history: csr_array) -> torch.Tensor:
        users = [self.train.index(row) for row in history.toarray().tolist()]
        return self.embeddings.users[users] @ self.embeddings.items.T


def test_evaluation_equals_that_of_stages() -> None:
    split = np.random.default_rng(3).choice(3, size=(30, 20), p=(0.5, 0.3, 0.2))
    train, test = (csr_array((split == part).astype(np.float32)) for part in (1, 2))
    small = torch.Generator().manual_seed(0)  # small integers: many ties
    embeddings = Embeddings(*(torch.randint(-1, 2, (size, 3), generator=small).float() for size in (30, 20)))
    baseline = Dots(embeddings)
    baseline.fit(train)
    loader = EvaluationLoader(train, test, batch_size=7)
    found = evaluate(BaselineRanker(baseline, train), loader, 20, "test/", (5, 3))
    ranker, recalls = Ranker(embeddings), []
    for batch in loader:
        hits, num_relevant = find_hits(ranker.rank(batch, 5), batch, 20)
        recalls += (hits.sum(1) / num_relevant).tolist()
    assert found.users["test/recall@5"] == pytest.approx(recalls)
    assert found.metrics["test/recall@5"] == pytest.approx(np.mean(recalls))
    assert found.users["user"].tolist() == np.flatnonzero(test.sum(1)).tolist()
    assert found.users.keys() == {"user", *found.metrics}
    assert found.metrics.keys() == {f"test/{name}@{k}" for name in ("recall", "ndcg") for k in (3, 5)}
