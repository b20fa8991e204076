from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from face_lightning.data.splits import global_split, k_core, last_split, random_split_per_user, renumber, temporal_split

PAIRS = st.sets(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=40)


def as_arrays(pairs):
    table = np.array(sorted(pairs), dtype=np.int64).reshape(-1, 2)
    return table[:, 0], table[:, 1]


def naive_core(pairs, k):
    pairs = set(pairs)
    while True:
        users, items = Counter(u for u, _ in pairs), Counter(i for _, i in pairs)
        kept = {(u, i) for u, i in pairs if users[u] >= k and items[i] >= k}
        if kept == pairs:
            return pairs
        pairs = kept


@given(PAIRS, st.integers(1, 4))
@settings(max_examples=60, deadline=None)
def test_core_equals_a_naive_loop(pairs, k):
    users, items = as_arrays(pairs)
    mask = k_core(users, items, k)
    assert set(zip(users[mask].tolist(), items[mask].tolist(), strict=True)) == naive_core(pairs, k)


def test_core_removes_a_chain():
    users = np.array([0, 0, 1, 1, 2])
    items = np.array([0, 1, 1, 2, 2])  # a path: each removal leaves a new end with too few pairs
    assert not k_core(users, items, 2).any()
    users, items = np.append(users, 2), np.append(items, 0)  # closed to a ring, all pairs remain
    assert k_core(users, items, 2).all()


@pytest.mark.parametrize(
    ("count", "expected"),
    [(1, (1, 0, 0)), (2, (1, 1, 0)), (3, (2, 0, 1)), (5, (3, 1, 1)), (8, (5, 1, 2)), (10, (6, 2, 2))],
)
def test_sizes_of_a_user_by_hand(count, expected):
    splits = random_split_per_user(np.zeros(count, int), np.arange(count))
    assert tuple(np.bincount(splits, minlength=3)) == expected


@given(PAIRS, st.integers(0, 3), st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_split_keeps_training_items_and_ignores_the_order_of_pairs(pairs, seed, random):
    users, items = as_arrays(pairs)
    splits = random_split_per_user(users, items, (1, 2, 2), seed)
    assert set(users[splits == 0]) == set(users)
    order = list(range(len(users)))
    random.shuffle(order)
    np.testing.assert_array_equal(random_split_per_user(users[order], items[order], (1, 2, 2), seed), splits[order])


def test_split_is_random_in_the_seed_and_uniform():
    users, items = np.repeat(np.arange(400), 5), np.tile(np.arange(5), 400)
    first, second = (random_split_per_user(users, items, seed=seed) for seed in (0, 1))
    assert (first != second).any()
    # Each of 5 items is in test for a fifth of 400 users: 80 with a standard deviation of 8.
    assert all(48 < count < 112 for count in np.bincount(items[first == 2]))


def test_renumber_in_ascending_order():
    distinct, numbers = renumber(np.array([30, 10, 30, 20]))
    assert distinct.tolist() == [10, 20, 30]
    assert numbers.tolist() == [2, 0, 2, 1]


@st.composite
def timed_pairs(draw):
    """Distinct pairs with times that are often equal."""
    pairs = draw(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 9)), min_size=1, max_size=50, unique=True))
    times = draw(st.lists(st.integers(0, 8), min_size=len(pairs), max_size=len(pairs)))
    users, items = np.array(pairs).T
    return users, items, np.array(times, dtype=np.float64)


@given(timed_pairs(), st.integers(0, 5), st.randoms(use_true_random=False))
def test_global_split_has_exact_sizes_for_any_order(pairs, seed, random):
    users, items, _ = pairs
    splits = global_split(users, items, (3, 1, 1), seed)
    sizes = np.bincount(splits, minlength=3)
    assert sizes.sum() == len(users)
    assert abs(sizes[0] - 0.6 * len(users)) <= 0.5
    order = random.sample(range(len(users)), len(users))
    assert (global_split(users[order], items[order], (3, 1, 1), seed) == splits[order]).all()


@given(timed_pairs())
def test_temporal_split_trains_on_older_pairs(pairs):
    times = pairs[2]
    splits = temporal_split(times)
    for number in (0, 1):
        if (splits <= number).any() and (splits > number).any():
            assert times[splits <= number].max() < times[splits > number].min()
    assert (splits == 0).sum() <= round(0.6 * len(times) + 0.5)


def test_temporal_split_by_hand():
    assert temporal_split(np.array([5.0, 1, 2, 4, 3])).tolist() == [2, 0, 0, 1, 0]
    assert temporal_split(np.array([1.0, 2, 2, 2, 3])).tolist() == [0, 1, 1, 1, 2]


@given(timed_pairs(), st.integers(1, 3))
def test_last_split_holds_out_the_last_pairs_of_every_user(pairs, last_n):
    users, items, times = pairs
    splits = last_split(users, items, times, last_n)
    for user in np.unique(users):
        mine = users == user
        ordered = splits[mine][np.lexsort((items[mine], times[mine]))]
        assert ordered.tolist() == sorted(ordered)
        count = mine.sum()
        assert (ordered == 0).sum() == max(1, count - 2 * last_n)
        assert (ordered == 2).sum() == min(last_n, count - 1)
