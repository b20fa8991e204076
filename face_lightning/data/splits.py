"""Filtering and splitting of interactions: pure functions of row numbers, without loops over pairs."""

from collections.abc import Sequence

import numpy as np


def k_core(users: np.ndarray, items: np.ndarray, k: int) -> np.ndarray:
    """Return the largest set of pairs in which every user and every item occurs at least `k` times.

    Users and items with fewer pairs are removed repeatedly until nothing changes.

    Args:
        users: Row number of each pair `(N,)`, from 0.
        items: Column number of each pair `(N,)`, from 0.
        k: Minimum number of pairs per user and item.

    Returns:
        Mask of the remaining pairs, `(N,)` bool.
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

    Sizes are rounded cumulatively, so that their sum is exact; the first split gets at least one pair of every user.
    Users with few pairs lack a split: at 8:1:1, 3 to 5 pairs give one to validation and none to test, 6 or 7 the
    reverse, and users with fewer than 3 are only trained on. The result does not depend on the order of the pairs.

    Args:
        users: Row number of each pair `(N,)`.
        items: Column number of each pair `(N,)`; pairs must be distinct.
        ratios: Relative sizes of the splits, training first.
        seed: Seed of the random generator.

    Returns:
        Split of each pair `(N,)`, int8, from 0.
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
    """Return the sorted distinct values `(K,)`, and the index among them of each value `(N,)`."""
    distinct, numbers = np.unique(values, return_inverse=True)
    return distinct, numbers.reshape(-1)


def global_split(
    users: np.ndarray, items: np.ndarray, ratios: Sequence[float] = (3, 1, 1), seed: int = 0
) -> np.ndarray:
    """Split all pairs at random in the given ratios, regardless of their users.

    Args:
        users: Row number of each pair `(N,)`.
        items: Column number of each pair `(N,)`; pairs must be distinct.
        ratios: Relative sizes of the splits, training first.
        seed: Seed of the random generator.

    Returns:
        Split of each pair `(N,)`, int8; does not depend on the order of the pairs.
    """
    order = np.lexsort((items, users))
    splits = np.empty(len(users), dtype=np.int8)
    splits[order[np.random.default_rng(seed).permutation(len(users))]] = np.repeat(
        np.arange(len(ratios), dtype=np.int8), np.diff(_cuts(len(users), ratios), prepend=0)
    )
    return splits


def temporal_split(times: np.ndarray, ratios: Sequence[float] = (3, 1, 1)) -> np.ndarray:
    """Split all pairs by time in the given ratios: oldest for training, newest for test.

    Pairs of the same time are in the same split, the later one at a boundary, so that all training pairs are older
    than all test pairs.

    Args:
        times: Time of each pair `(N,)`.
        ratios: Relative sizes of the splits, training first.

    Returns:
        Split of each pair `(N,)`, int8.
    """
    ordered = np.sort(times)
    splits = np.zeros(len(times), dtype=np.int8)
    for cut in _cuts(len(times), ratios)[:-1]:
        if cut < len(times):
            splits += times >= ordered[cut]
    return splits


def last_split(users: np.ndarray, items: np.ndarray, times: np.ndarray, last_n: int = 1) -> np.ndarray:
    """Hold out the last pairs of every user: `last_n` for test, and as many before them for validation.

    Of users with few pairs at least one is kept for training; test takes precedence over validation.

    Args:
        users: Row number of each pair `(N,)`.
        items: Column number of each pair `(N,)`; pairs of the same time are ordered by it.
        times: Time of each pair `(N,)`.
        last_n: Maximum number of pairs of a user in validation, and in test.

    Returns:
        Split of each pair `(N,)`, int8: 0 train, 1 valid, 2 test.
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
    """Return the end of each split among `count` ordered pairs; sizes are rounded cumulatively."""
    bounds = np.cumsum(np.asarray(ratios, dtype=np.float64))
    ends: np.ndarray = np.floor(count * bounds / bounds[-1] + 0.5).astype(np.int64)
    return ends
