"""Whitening by hand and against the singular value decomposition."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from face_lightning.errors import ConfigurationError
from face_lightning.mapping.whitening import whiten

SEEDS = st.integers(0, 2**32 - 1)


def random(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_two_directions_by_hand() -> None:
    # Variances 100 and 1 along the axes become equal, and the mean (7, 7) goes.
    table = torch.tensor([[17.0, 8.0], [17.0, 6.0], [-3.0, 8.0], [-3.0, 6.0]])
    half = 0.5**0.5
    expected = torch.tensor([[half, half], [half, -half], [-half, half], [-half, -half]])
    torch.testing.assert_close(whiten(table, 2), expected)
    torch.testing.assert_close(whiten(table, 1), expected[:, :1].sign())


@given(SEEDS, st.integers(1, 5))
@settings(max_examples=25)
def test_whitening_is_that_of_the_singular_vectors(seed: int, dim: int) -> None:
    table = random(seed, 12, 5).double() @ torch.diag(torch.tensor([9.0, 5.0, 3.0, 1.0, 0.5]).double())
    left, _, right = np.linalg.svd((table - table.mean(0)).numpy(), full_matrices=False)
    naive = left[:, :dim] * np.array([np.sign(row[np.argmax(np.abs(row))]) for row in right[:dim]])
    naive /= np.linalg.norm(naive, axis=1, keepdims=True)
    torch.testing.assert_close(whiten(table.float(), dim).double().numpy(), naive, atol=1e-4, rtol=0)


def test_directions_without_variance_stay_zero() -> None:
    table = random(0, 10, 2) @ random(1, 2, 6)
    white = whiten(table, 4)
    assert white.isfinite().all()
    assert (white[:, 2:] == 0).all()


@pytest.mark.parametrize("dim", [0, 6, 9])
def test_impossible_sizes_are_told(dim: int) -> None:
    with pytest.raises(ConfigurationError, match=f"dim: expected 1 to 5 .* got {dim}"):
        whiten(random(0, 9, 5), dim)
