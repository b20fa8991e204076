"""Significance tests between runs: paired t tests over users, and Holm's correction for multiple comparisons."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import stdtr  # scipy.stats takes over a second to import

from face_lightning.errors import DataError


class Comparison(NamedTuple):
    """Result of a paired t test between two runs.

    Attributes:
        difference: Mean difference over users, this run minus the other.
        statistic: Student's t, paired over users.
        probability: Two-sided p-value; 1 if no user differs.
    """

    difference: float
    statistic: float
    probability: float


def compare_paired(values: np.ndarray, others: np.ndarray) -> Comparison:
    """Paired Student's t test between the metrics of two runs on the same users.

    Args:
        values: Metric of every user, `(N,)`.
        others: Metric of the same users in the other run, `(N,)`.

    Raises:
        DataError: If the numbers of users differ, or a value is not finite.
    """
    if np.shape(values) != np.shape(others):
        raise DataError(
            f"values: expected as many users in both runs, got {np.shape(values)} and {np.shape(others)}; compare runs "
            "of the same data"
        )
    if not (np.isfinite(values).all() and np.isfinite(others).all()):
        raise DataError("values: expected finite metrics, got NaN or infinity; train that run again")
    differences = np.asarray(values, dtype=np.float64) - np.asarray(others, dtype=np.float64)
    if len(differences) < 2 or np.ptp(differences) == 0:
        constant = float(differences.mean()) if len(differences) else 0.0
        return Comparison(
            constant, float("inf") if constant else 0.0, 0.0 if constant and len(differences) > 1 else 1.0
        )
    count = len(differences)
    statistic = float(differences.mean() / (differences.std(ddof=1) / count**0.5))
    return Comparison(float(differences.mean()), statistic, float(2 * stdtr(count - 1, -abs(statistic))))


def correct_holm(probabilities: Sequence[float]) -> list[float]:
    """Correct p-values for multiple comparisons by Holm's step-down method.

    Reference:
        Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of
        Statistics, 1979.

    Args:
        probabilities: p-value of each comparison, in any order.

    Returns:
        Corrected p-values, in the same order.

    Raises:
        DataError: If a p-value is NaN, or not between 0 and 1.
    """
    for value in probabilities:
        if not 0 <= value <= 1:
            raise DataError(f"probabilities: expected numbers from 0 to 1, got {value}; leave that comparison out")
    order = sorted(range(len(probabilities)), key=lambda index: probabilities[index])
    corrected, largest = [0.0] * len(order), 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * probabilities[index]))
        corrected[index] = largest
    return corrected
