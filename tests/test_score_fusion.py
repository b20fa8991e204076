"""Fused scores, compared to the truncated SVD of the full matrix in float64."""

import numpy as np
import pytest
import torch

from face_lightning.score_fusion import fuse_scores, mean_square
from face_lightning.structures import Embeddings


def draw(seed: int, dim: int, num_users: int = 30, num_items: int = 20) -> Embeddings:
    generator = torch.Generator().manual_seed(seed)
    return Embeddings(
        *(torch.randn(size, dim, generator=generator, dtype=torch.float64) for size in (num_users, num_items))
    )


def scores(embeddings: Embeddings) -> np.ndarray:
    return (embeddings.users @ embeddings.items.T).numpy()


@pytest.mark.parametrize("width", [1, 3, 25])
def test_scores_are_the_best_approximation_of_the_sum(width: int) -> None:
    own, other = draw(0, 4), draw(1, width)
    size = np.sqrt((scores(own) ** 2).mean() / (scores(other) ** 2).mean())
    total = scores(own) + 0.5 * size * scores(other)
    left, values, right = np.linalg.svd(total)
    expected = left[:, :4] * values[:4] @ right[:4]
    fused = fuse_scores(own, other, 0.5)
    assert fused.users.shape == own.users.shape
    assert scores(fused) == pytest.approx(expected, abs=1e-6)


def test_a_share_of_zero_keeps_the_scores() -> None:
    own = draw(0, 4)
    assert scores(fuse_scores(own, draw(1, 3), 0.0)) == pytest.approx(scores(own), abs=1e-6)


def test_factors_lie_nearest_to_the_embeddings() -> None:
    own = draw(0, 4)
    gram = own.users.T @ own.users + own.items.T @ own.items
    fused = fuse_scores(own, draw(1, 3), 0.1)
    overlap = fused.users.T @ own.users + fused.items.T @ own.items
    assert torch.allclose(overlap, overlap.T, atol=1e-8)  # the optimality condition of Procrustes
    assert float(overlap.trace()) > 0.9 * float(gram.trace())


def test_scores_that_are_all_zero_change_nothing() -> None:
    own = draw(0, 4)
    zero = Embeddings(torch.zeros(30, 3, dtype=torch.float64), torch.zeros(20, 3, dtype=torch.float64))
    assert scores(fuse_scores(own, zero, 0.5)) == pytest.approx(scores(own), abs=1e-6)


def test_the_mean_square_is_that_of_all_pairs() -> None:
    assert float(mean_square(draw(0, 4))) == pytest.approx((scores(draw(0, 4)) ** 2).mean())
