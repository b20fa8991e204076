"""What the training items of a user say of the user: favourite tags and typical items.

Test and validation items are never looked at, so that texts cannot tell what is to be predicted.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.sparse import csr_array

_SMOOTHING = 5.0  # training items' worth of the population's taste that is mixed into each user's
_DISCOUNT = 0.7  # of every count: a tag seen once says little
_CHUNK = 1 << 18  # pairs at once, which bounds memory whatever the number of interactions


class Taste(NamedTuple):
    """Names of the favourite tags and numbers of the typical items of every user, best first."""

    favourites: tuple[tuple[str, ...], ...]
    items: tuple[tuple[int, ...], ...]


def find_taste(
    train: csr_array[Any],
    tags: Sequence[Sequence[str]],
    nameable: np.ndarray,
    num_favourites: int = 4,
    num_items: int = 4,
) -> Taste:
    """Tags and items that set each user apart from the population.

    A tag scores `q log(q / p)` with `p` its share among all training pairs and `q` its share among
    the user's, discounted and smoothed: what is frequent with the user and rarer elsewhere. An item
    scores the sum over its tags divided by the root of their number, plus a little for being
    unpopular.

    Args:
        train: Training pairs `(U, I)`.
        tags: Tags of every item, I sequences.
        nameable: Which items may be chosen, because they have a title `(I,)` bool.
        num_favourites: Most tags per user.
        num_items: Most items per user.
    """
    names, membership = _tag_matrix(tags, train.shape[1])
    scores = _tag_scores(train, membership)
    popularity = np.asarray(train.sum(axis=0)).reshape(-1)
    rarity = np.log(train.shape[0] / np.maximum(popularity, 1.0))
    users, items = train.nonzero()
    affinity = 0.01 * rarity[items]
    widths = np.sqrt(np.maximum(np.diff(membership.indptr), 1))
    for start in range(0, len(users), _CHUNK):
        part = slice(start, start + _CHUNK)
        overlap = scores[users[part]].multiply(membership[items[part]]).sum(axis=1)
        affinity[part] += np.asarray(overlap).reshape(-1) / widths[items[part]]
    chosen = nameable[items]
    tag_users, tag_columns = scores.nonzero()
    favourites = _best(tag_users, tag_columns, scores.data, train.shape[0], num_favourites)
    typical = _best(users[chosen], items[chosen], affinity[chosen], train.shape[0], num_items)
    return Taste(tuple(tuple(names[column] for column in row) for row in favourites), typical)


def most_common(train: csr_array[Any], values: Sequence[str], count: int) -> tuple[tuple[str, ...], ...]:
    """The `count` values that occur most among each user's training items; "" is no value.

    Args:
        train: Training pairs `(U, I)`.
        values: One value of every item, I in all.
        count: Most values per user; equally common ones come in alphabetical order.
    """
    names, membership = _tag_matrix([[value] if value else [] for value in values], train.shape[1])
    counts = csr_array(train @ membership)
    users, columns = counts.nonzero()
    rows = _best(users, columns, counts.data, train.shape[0], count)
    return tuple(tuple(names[column] for column in row) for row in rows)


def _tag_matrix(tags: Sequence[Sequence[str]], num_items: int) -> tuple[list[str], csr_array[Any]]:
    """Distinct tags, and which item has which as float64 ones `(I, T)`."""
    names = sorted({tag for row in tags for tag in row})
    columns = {name: column for column, name in enumerate(names)}
    lists = [sorted({columns[tag] for tag in row}) for row in tags]
    indptr = np.concatenate([[0], np.cumsum([len(row) for row in lists])]).astype(np.int64)
    indices = np.fromiter((column for row in lists for column in row), dtype=np.int64, count=int(indptr[-1]))
    ones = np.ones(len(indices), dtype=np.float64)
    return names, csr_array((ones, indices, indptr), shape=(num_items, len(names)))


def _tag_scores(train: csr_array[Any], membership: csr_array[Any]) -> csr_array[Any]:
    """Score of each tag with each user who has it more than the population does `(U, T)`."""
    counts = csr_array(train.astype(np.float64) @ membership)
    tagged = train @ (np.diff(membership.indptr) > 0).astype(np.float64)
    population = np.asarray(counts.sum(axis=0)).reshape(-1) / max(float(tagged.sum()), 1.0)
    rows, columns = counts.nonzero()
    expected = population[columns]
    share = (counts.data - _DISCOUNT + _SMOOTHING * expected) / (tagged[rows] + _SMOOTHING)
    values = np.maximum(share * np.log(share / expected), 0)
    scores = csr_array((values, (rows, columns)), shape=counts.shape)
    scores.eliminate_zeros()
    return scores


def _best(
    rows: np.ndarray, columns: np.ndarray, scores: np.ndarray, num_rows: int, count: int
) -> tuple[tuple[int, ...], ...]:
    """The `count` columns with the highest scores of every row; equal scores by column."""
    order = np.lexsort((columns, -scores, rows))
    lengths = np.bincount(rows, minlength=num_rows)
    ranks = np.arange(len(rows)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    kept = order[ranks < count]
    ends = np.cumsum(np.minimum(lengths, count))
    return tuple(tuple(part.tolist()) for part in np.split(columns[kept], ends[:-1]))
