"""Tests of the row solver against the normal equations in float64."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from face_lightning.row_solver import RowSolver


def naive(
    table: np.ndarray, columns: list[int], weight: float, regularization: float, targets: np.ndarray
) -> np.ndarray:
    """`(Y_O^T Y_O + w Y^T Y + l)^-1 Y_O^T t_O`."""
    chosen = table[columns]
    system = chosen.T @ chosen + weight * table.T @ table + regularization * np.eye(table.shape[1])
    return np.linalg.solve(system, targets[columns] @ chosen)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000), st.integers(1, 9), st.integers(0, 14), st.floats(0, 1), st.floats(0.1, 50))
def test_rows_solve_the_normal_equations(
    seed: int, dim: int, longest: int, weight: float, regularization: float
) -> None:
    draws = np.random.default_rng(seed)
    table = draws.normal(size=(15, dim))
    rows = [draws.choice(15, size=size, replace=False).tolist() for size in (longest, longest // 2, 0)]
    padded = torch.tensor([[*row, *[3] * (longest - len(row))] for row in rows], dtype=torch.long)
    weights = [regularization, 2 * regularization, 1.0]
    targets = draws.normal(size=15)
    solver = RowSolver(torch.from_numpy(table), weight, torch.from_numpy(targets))
    solved = solver.solve(padded.view(3, longest), torch.tensor([len(row) for row in rows]), torch.tensor(weights))
    expected = np.stack([naive(table, row, weight, one, targets) for row, one in zip(rows, weights, strict=True)])
    assert solved.shape == (3, dim)
    assert solved.numpy() == pytest.approx(expected, abs=2e-5)


def test_table_of_low_rank() -> None:
    table = torch.ones(6, 4)  # three of four eigenvalues are 0 up to rounding
    solved = RowSolver(table, 0.5).solve(torch.tensor([[0, 1]]), torch.tensor([2]), torch.tensor([1.0]))
    assert solved[0].numpy() == pytest.approx(naive(table.double().numpy(), [0, 1], 0.5, 1.0, np.ones(6)), abs=1e-6)
