"""Tests of whitening by hand and against the singular value decomposition."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from face_lightning.errors import ConfigurationError
from face_lightning.mapping.whitening import InputWhitening, whiten

SEEDS = st.integers(0, 2**32 - 1)


def random(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_two_directions_by_hand() -> None:
    # Variances 100 and 1 along the axes become equal, and the mean (7, 7) is subtracted.
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


def test_half_whitening_leaves_the_root_of_the_deviations() -> None:
    table = torch.tensor([[17.0, 8.0], [17.0, 6.0], [-3.0, 8.0], [-3.0, 6.0]])  # deviations 10 and 1
    along, across = (10 / 11) ** 0.5, (1 / 11) ** 0.5
    expected = torch.tensor([[along, across], [along, -across], [-along, across], [-along, -across]])
    torch.testing.assert_close(whiten(table, 2, power=0.5), expected)


def test_directions_without_variance_stay_zero() -> None:
    table = random(0, 10, 2) @ random(1, 2, 6)
    white = whiten(table, 4)
    assert white.isfinite().all()
    assert (white[:, 2:] == 0).all()


@pytest.mark.parametrize("dim", [0, 6, 9])
def test_invalid_sizes_raise(dim: int) -> None:
    with pytest.raises(ConfigurationError, match=f"dim: expected 1 to 5 .* got {dim}"):
        whiten(random(0, 9, 5), dim)


@given(SEEDS, st.sampled_from([0.0, 0.02, 1.0]))
@settings(max_examples=25)
def test_whitened_input_has_the_expected_covariance(seed: int, ridge: float) -> None:
    rows = (random(seed, 40, 5) @ random(seed + 1, 5, 5) + 3).double()
    whitening = InputWhitening(5, ridge).double()
    whitening.fit(rows.split(7))
    white = (rows - whitening.mean) @ whitening.matrix
    variances = np.linalg.eigvalsh(np.cov(rows.numpy().T, bias=True))
    left = variances / (variances + ridge * variances.mean())
    found = np.linalg.eigvalsh(np.cov(white.numpy().T, bias=True))
    np.testing.assert_allclose(found, left, atol=1e-6)
    np.testing.assert_allclose(white.mean(0), 0, atol=1e-6)
    torch.testing.assert_close(whitening.matrix, whitening.matrix.T, msg="no direction is turned")


def test_constant_input_stays_finite() -> None:
    whitening = InputWhitening(4)
    whitening.fit([torch.ones(6, 4)])
    assert torch.equal(whitening(torch.ones(2, 4)), torch.zeros(2, 4))


def test_unfitted_whitening_is_the_identity() -> None:
    rows = random(0, 6, 4)
    torch.testing.assert_close(InputWhitening(4)(rows), rows)
