"""Paired t tests, compared to the formula, and Holm's correction, computed by hand."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from face_lightning.errors import DataError
from face_lightning.significance import compare_paired, correct_holm


def test_paired_t_by_its_formula() -> None:
    values, others = np.array([0.5, 0.4, 0.9, 0.1]), np.array([0.3, 0.4, 0.6, 0.2])
    found = compare_paired(values, others)
    differences = [0.2, 0.0, 0.3, -0.1]
    mean = sum(differences) / 4
    variance = sum((value - mean) ** 2 for value in differences) / 3
    assert found.difference == pytest.approx(mean)
    assert found.statistic == pytest.approx(mean / math.sqrt(variance / 4))
    assert 0.2 < found.probability < 0.4


def test_equal_runs_do_not_differ() -> None:
    assert compare_paired(np.array([0.1, 0.2]), np.array([0.1, 0.2])) == (0.0, 0.0, 1.0)


def test_holm_by_hand() -> None:
    # Sorted: .005 * 4, .01 * 3, .03 * 2, .04 * 1, each at least as large as the one before.
    assert correct_holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert correct_holm([0.9, 0.8]) == [1.0, 1.0]
    assert correct_holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_keeps_the_order_and_never_lowers(probabilities: list[float]) -> None:
    corrected = correct_holm(probabilities)
    assert all(after >= before for after, before in zip(corrected, probabilities, strict=True))
    assert min(corrected) == pytest.approx(min(1.0, len(probabilities) * min(probabilities)))
    pairs = sorted(zip(probabilities, corrected, strict=True))
    assert [after for _, after in pairs] == sorted(corrected)


def test_incomparable_values_are_rejected() -> None:
    with pytest.raises(DataError, match=r"expected as many users in both runs, got \(3,\) and \(2,\); compare"):
        compare_paired(np.zeros(3), np.zeros(2))
    with pytest.raises(DataError, match="expected as many users"):  # which NumPy would repeat
        compare_paired(np.zeros(3), np.zeros(1))
    for value in (math.nan, math.inf):
        with pytest.raises(DataError, match="values: expected finite metrics, got NaN or infinity; train"):
            compare_paired(np.zeros(3), np.array([0, value, 1]))
        with pytest.raises(DataError, match=f"probabilities: expected numbers from 0 to 1, got {value}; leave"):
            correct_holm([0.1, value])
