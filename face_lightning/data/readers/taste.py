"""Favourite tags and typical items of users, from their training items.

Validation and test items are never used, so that texts cannot reveal them.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.sparse import csr_array

_SMOOTHING = 5.0  # weight of the population's taste in each user's, in training items
_DISCOUNT = 0.7  # absolute discount of every count: a tag seen once is weak evidence
_CHUNK = 1 << 18  # pairs per chunk, to bound memory


class Taste(NamedTuple):
    """Favourite tags and column numbers of typical items of every user, best first."""

    favourites: tuple[tuple[str, ...], ...]
    items: tuple[tuple[int, ...], ...]


def find_taste(
    train: csr_array[Any],
    tags: Sequence[Sequence[str]],
    nameable: np.ndarray,
    num_favourites: int = 4,
    num_items: int = 4,
) -> Taste:
    """Find the tags and items that distinguish each user from the population.

    A tag scores `q log(q / p)` with `p` its share among all training pairs and `q` its share among
    the user's, discounted and smoothed, which favours tags that are frequent with the user and rare elsewhere.
    An item scores the sum over its tags divided by the square root of their number, plus a small bonus for rarity.

    Args:
        train: Training pairs `(U, I)`.
        tags: Tags of every item, I sequences.
        nameable: Mask of the items with a title, `(I,)` bool; only these are chosen.
        num_favourites: Maximum number of tags per user.
        num_items: Maximum number of items per user.
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
    """Return the most frequent values among each user's training items; "" is ignored.

    Args:
        train: Training pairs `(U, I)`.
        values: Value of every item, I in all.
        count: Maximum number of values per user; ties are in alphabetical order.
    """
    names, membership = _tag_matrix([[value] if value else [] for value in values], train.shape[1])
    counts = csr_array(train @ membership)
    users, columns = counts.nonzero()
    rows = _best(users, columns, counts.data, train.shape[0], count)
    return tuple(tuple(names[column] for column in row) for row in rows)


def _tag_matrix(tags: Sequence[Sequence[str]], num_items: int) -> tuple[list[str], csr_array[Any]]:
    """Return the distinct tags, and the binary matrix of items and tags `(I, T)` in float64."""
    names = sorted({tag for row in tags for tag in row})
    columns = {name: column for column, name in enumerate(names)}
    lists = [sorted({columns[tag] for tag in row}) for row in tags]
    indptr = np.concatenate([[0], np.cumsum([len(row) for row in lists])]).astype(np.int64)
    indices = np.fromiter((column for row in lists for column in row), dtype=np.int64, count=int(indptr[-1]))
    ones = np.ones(len(indices), dtype=np.float64)
    return names, csr_array((ones, indices, indptr), shape=(num_items, len(names)))


def _tag_scores(train: csr_array[Any], membership: csr_array[Any]) -> csr_array[Any]:
    """Score the tags that are more frequent with a user than in the population, `(U, T)`."""
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
    """Return the `count` columns with the highest scores of every row; ties by column."""
    order = np.lexsort((columns, -scores, rows))
    lengths = np.bincount(rows, minlength=num_rows)
    ranks = np.arange(len(rows)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    kept = order[ranks < count]
    ends = np.cumsum(np.minimum(lengths, count))
    return tuple(tuple(part.tolist()) for part in np.split(columns[kept], ends[:-1]))
