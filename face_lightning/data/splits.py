"""Filtering and splitting of interactions: pure functions of row numbers, without loops over pairs."""

from collections.abc import Sequence

import numpy as np


def k_core(users: np.ndarray, items: np.ndarray, k: int) -> np.ndarray:
    """Largest set of pairs in which every user and every item occurs at least `k` times.

    Users and items below `k` are removed in turn until nothing changes.

    Args:
        users: Row number of each pair `(N,)`, from 0.
        items: Column number of each pair `(N,)`, from 0.
        k: Least number of pairs per user and item.

    Returns:
        Which pairs stay, `(N,)` bool.
    """
    kept = np.arange(len(users))
    while len(kept):
        user_counts = np.bincount(users[kept])
        item_counts = np.bincount(items[kept])
        enough = (user_counts[users[kept]] >= k) & (item_counts[items[kept]] >= k)
        if enough.all():
            break
        kept = kept[enough]
    mask = np.zeros(len(users), dtype=bool)
    mask[kept] = True
    return mask


def random_split_per_user(
    users: np.ndarray, items: np.ndarray, ratios: Sequence[float] = (3, 1, 1), seed: int = 0
) -> np.ndarray:
    """Split the pairs of every user at random in the given ratios.

    Shares are rounded cumulatively, so that their sum is exact; the first split gets at least one
    pair of every user. The order in which the pairs are given makes no difference.

    Args:
        users: Row number of each pair `(N,)`.
        items: Column number of each pair `(N,)`; no pair may occur twice.
        ratios: Relative sizes of the splits, training first.
        seed: Seed of the random generator.

    Returns:
        Number of the split each pair falls into `(N,)`, int8, from 0.
    """
    order = np.lexsort((items, users))
    draws = np.empty(len(users))
    draws[order] = np.random.default_rng(seed).random(len(users))
    shuffled = np.lexsort((draws, users))
    _, starts, counts = np.unique(users[shuffled], return_index=True, return_counts=True)
    totals = np.repeat(counts, counts)
    ranks = np.arange(len(users)) - np.repeat(starts, counts)
    bounds = np.cumsum(np.asarray(ratios, dtype=np.float64))
    splits = np.zeros(len(users), dtype=np.int8)
    for number, bound in enumerate(bounds[:-1]):
        least = 1 if number == 0 else 0
        cut = np.maximum(np.floor(totals * bound / bounds[-1] + 0.5), least)
        splits[shuffled[ranks >= cut]] = number + 1
    return splits


def renumber(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distinct values in ascending order `(K,)`, and the number in that order of each value `(N,)`."""
    distinct, numbers = np.unique(values, return_inverse=True)
    return distinct, numbers.reshape(-1)


def global_split(
    users: np.ndarray, items: np.ndarray, ratios: Sequence[float] = (3, 1, 1), seed: int = 0
) -> np.ndarray:
    """Split all pairs at random in the given ratios, whoever's they are.

    Args:
        users: Row number of each pair `(N,)`.
        items: Column number of each pair `(N,)`; no pair may occur twice.
        ratios: Relative sizes of the splits, training first.
        seed: Seed of the random generator.

    Returns:
        Number of the split each pair falls into `(N,)`, int8; the order of the pairs makes no difference.
    """
    order = np.lexsort((items, users))
    splits = np.empty(len(users), dtype=np.int8)
    splits[order[np.random.default_rng(seed).permutation(len(users))]] = np.repeat(
        np.arange(len(ratios), dtype=np.int8), np.diff(_cuts(len(users), ratios), prepend=0)
    )
    return splits


def temporal_split(times: np.ndarray, ratios: Sequence[float] = (3, 1, 1)) -> np.ndarray:
    """Split all pairs by time in the given ratios: the oldest train, the newest test.

    Pairs of the same time fall into the same split, the later one where a cut goes through them: what
    is trained on is then older than what is tested on, for all users.

    Args:
        times: Time of each pair `(N,)`.
        ratios: Relative sizes of the splits, training first.

    Returns:
        Number of the split each pair falls into `(N,)`, int8.
    """
    ordered = np.sort(times)
    splits = np.zeros(len(times), dtype=np.int8)
    for cut in _cuts(len(times), ratios)[:-1]:
        if cut < len(times):
            splits += times >= ordered[cut]
    return splits


def last_split(users: np.ndarray, items: np.ndarray, times: np.ndarray, last_n: int = 1) -> np.ndarray:
    """Split by leaving out the last pairs of every user: `last_n` for test, as many before for validation.

    A user of few pairs keeps at least one for training, gives to test next, and to validation last.

    Args:
        users: Row number of each pair `(N,)`.
        items: Column number of each pair `(N,)`; pairs of the same time are ordered by it.
        times: Time of each pair `(N,)`.
        last_n: Most pairs of a user in validation, and in test.

    Returns:
        Number of the split each pair falls into `(N,)`, int8: 0 train, 1 valid, 2 test.
    """
    order = np.lexsort((items, times, users))
    _, starts, counts = np.unique(users[order], return_index=True, return_counts=True)
    totals = np.repeat(counts, counts)
    from_end = totals - 1 - (np.arange(len(users)) - np.repeat(starts, counts))
    num_test = np.minimum(last_n, totals - 1)
    num_valid = np.minimum(last_n, totals - 1 - num_test)
    splits = np.zeros(len(users), dtype=np.int8)
    splits[order] = np.where(from_end < num_test, 2, np.where(from_end < num_test + num_valid, 1, 0))
    return splits


def _cuts(count: int, ratios: Sequence[float]) -> np.ndarray:
    """Where each split ends among `count` pairs in order; sizes are rounded cumulatively."""
    bounds = np.cumsum(np.asarray(ratios, dtype=np.float64))
    ends: np.ndarray = np.floor(count * bounds / bounds[-1] + 0.5).astype(np.int64)
    return ends
