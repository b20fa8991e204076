"""Preparation of interactions: rating threshold, deduplication, k-core and split, with counts after each step."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from face_lightning.data.interactions import SPLITS, Interactions
from face_lightning.data.pairs import RawPairs
from face_lightning.data.splits import global_split, k_core, last_split, random_split_per_user, renumber, temporal_split
from face_lightning.errors import ConfigurationError, DataError

KINDS = ("random", "global", "temporal", "last", "given")


@dataclass(frozen=True)
class Recipe:
    """How rows are filtered and split.

    Attributes:
        min_rating: Minimum rating of an interaction; None keeps every row.
        core: Minimum number of interactions of every user and item, over all splits; 1 keeps everything.
        split: "random" splits the pairs of each user at random; "global" all pairs at random; "temporal" all pairs by
            time; "last" holds out the last pairs of each user; "given" keeps the split of the files.
        ratios: Relative sizes of train, valid and test, for "random", "global" and "temporal".
        last_n: Number of pairs of each user in valid, and in test, for "last".
        seed: Seed of the random splits.

    Raises:
        ConfigurationError: If a value is out of range.
    """

    min_rating: float | None = None
    core: int = 1
    split: str = "random"
    ratios: Sequence[float] = (3.0, 1.0, 1.0)
    last_n: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        if self.split not in KINDS:
            raise ConfigurationError(f"split: expected one of {', '.join(KINDS)}, got {self.split!r}; choose one")
        for name in ("core", "last_n"):
            if getattr(self, name) < 1:
                raise ConfigurationError(f"{name}: expected at least 1, got {getattr(self, name)}; omit it for 1")
        if self.seed < 0:
            raise ConfigurationError(f"seed: expected 0 or more, got {self.seed}; choose another")
        sound = len(self.ratios) == 3 and all(np.isfinite(self.ratios)) and min(self.ratios) >= 0 < self.ratios[0]
        if not sound:
            raise ConfigurationError(
                f"ratios: expected three sizes of train, valid and test, train above 0, got {list(self.ratios)}; "
                "the default is 3 1 1"
            )

    @property
    def needs_time(self) -> bool:
        """Whether rows need a time."""
        return self.split in ("temporal", "last")


class Step(NamedTuple):
    """Counts after a step."""

    step: str
    num_interactions: int
    num_users: int
    num_items: int


class _Rows(NamedTuple):
    """Remaining rows; `files` is replaced by the number of the split."""

    users: np.ndarray
    items: np.ndarray
    times: np.ndarray | None
    files: np.ndarray

    def take(self, which: np.ndarray) -> "_Rows":
        return _Rows(*(None if part is None else part[which] for part in self))  # type: ignore[arg-type]

    def counts_after(self, step: str) -> Step:
        return Step(step, len(self.users), _num_distinct(self.users), _num_distinct(self.items))


def prepare(pairs: RawPairs, recipe: Recipe, name: str) -> tuple[Interactions, list[Step]]:
    """Filter and split interactions; the result does not depend on row order.

    Args:
        pairs: Rows of the files.
        recipe: How to filter and split them.
        name: Name of the data set.

    Returns:
        The splits, and the counts after every step.

    Raises:
        DataError: If no rows remain after a step, or times are needed and missing.
    """
    if recipe.needs_time and pairs.times is None:
        raise DataError(
            f"split: expected timestamps for a {recipe.split} split, got no column; add --time COLUMN, or "
            "use --split random"
        )
    rows = _Rows(pairs.users, pairs.items, pairs.times, pairs.files)
    steps = [rows.counts_after("read")]
    if pairs.num_without_id:
        steps[0] = steps[0]._replace(step=f"read, without {pairs.num_without_id:,} rows that lack an id")
    if recipe.min_rating is not None:
        rows = _threshold(rows, pairs, recipe.min_rating)
        steps.append(rows.counts_after(f"rating >= {recipe.min_rating:g}"))
    rows = rows.take(_first_of_each(rows))
    steps.append(rows.counts_after("duplicate pairs removed, earliest kept"))
    if recipe.core > 1:
        rows = _core(rows, recipe.core)
        steps.append(rows.counts_after(f"{recipe.core}-core"))
    rows = _split(rows, recipe)
    steps.append(rows.counts_after(_describe_split(recipe)))
    kept_users, users = renumber(rows.users)
    kept_items, items = renumber(rows.items)
    interactions = Interactions.from_coordinates(
        *((users[rows.files == number], items[rows.files == number]) for number in range(len(SPLITS))),
        name=name,
        user_ids=pairs.user_ids[kept_users],
        item_ids=pairs.item_ids[kept_items],
    )
    return interactions, steps


def _threshold(rows: _Rows, pairs: RawPairs, least: float) -> _Rows:
    """Keep rows of sufficient rating."""
    if pairs.ratings is None:
        raise DataError("min_rating: expected a column of ratings, got none; add --rating COLUMN")
    liked = pairs.ratings >= least
    if not liked.any():
        raise DataError(
            f"min_rating: expected ratings of at least {least:g}, got at most {pairs.ratings.max():g}; lower "
            "--min_rating"
        )
    return rows.take(liked)


def _first_of_each(rows: _Rows) -> np.ndarray:
    """Return one row per pair: that of the first file, then the earliest."""
    keys = rows.users * (np.int64(rows.items.max()) + 1) + rows.items
    if rows.times is not None:
        order = np.lexsort((rows.times, rows.files, keys))
    elif rows.files.any():
        order = np.lexsort((rows.files, keys))
    else:
        order = np.argsort(keys)  # rows of a pair are identical
    ordered = keys[order]
    first = np.append(True, ordered[1:] != ordered[:-1])
    return np.asarray(order[first])


def _core(rows: _Rows, core: int) -> _Rows:
    """Keep the rows of the k-core."""
    kept = k_core(rows.users, rows.items, core)
    if not kept.any():
        most = min(core - 1, int(np.bincount(rows.users).max()), int(np.bincount(rows.items).max()))
        largest = next(k for k in range(most, 0, -1) if k_core(rows.users, rows.items, k).any())
        raise DataError(
            f"core: expected users and items with at least {core} interactions each, got none among "
            f"{len(kept):,} interactions; the largest core that is not empty is --core {largest}"
        )
    return rows.take(kept)


def _split(rows: _Rows, recipe: Recipe) -> _Rows:
    """Assign rows to splits; pairs of users without a training pair are dropped."""
    if recipe.split == "given":
        splits = rows.files
    elif recipe.split == "random":
        splits = random_split_per_user(rows.users, rows.items, recipe.ratios, recipe.seed)
    elif recipe.split == "global":
        splits = global_split(rows.users, rows.items, recipe.ratios, recipe.seed)
    elif rows.times is None:
        raise AssertionError("prepare has checked that times are given")
    elif recipe.split == "temporal":
        splits = temporal_split(rows.times, recipe.ratios)
    else:
        splits = last_split(rows.users, rows.items, rows.times, recipe.last_n)
    trained = np.zeros(int(rows.users.max()) + 1, dtype=bool)
    trained[rows.users[splits == 0]] = True
    if not trained.any():
        raise DataError(
            f"split: expected training interactions, got none with a {recipe.split} split; choose another --split"
        )
    return rows._replace(files=splits).take(trained[rows.users])


def _describe_split(recipe: Recipe) -> str:
    """Describe the split in words."""
    shares = ":".join(f"{ratio:g}" for ratio in recipe.ratios)
    return {
        "random": f"split of each user at random {shares}, seed {recipe.seed}",
        "global": f"split of all pairs at random {shares}, seed {recipe.seed}, users without training pairs dropped",
        "temporal": f"split of all pairs by time {shares}, users without training pairs dropped",
        "last": f"split of each user by time: the last {recipe.last_n} for test, {recipe.last_n} before for validation",
        "given": "split as given, users without training pairs dropped",
    }[recipe.split]


def raw_notices(pairs: RawPairs, recipe: Recipe) -> list[str]:
    """Return warnings about rows as they were read, one line each."""
    found = []
    if pairs.ratings is not None and recipe.min_rating is None:
        low, high = pairs.ratings.min(), pairs.ratings.max()
        negative = int((pairs.ratings < 0).sum())
        found.append(
            f"every row counts as an interaction, regardless of its rating ({low:g} to {high:g}"
            f"{f', {negative:,} below 0' if negative else ''}); --min_rating keeps those that show liking"
        )
    for kind, ids in (("user", pairs.user_ids), ("item", pairs.item_ids)):
        alike = similar_ids(ids)
        if alike is not None:
            number, first, second = alike
            found.append(
                f"{number:,} {kind} ids differ from another one only by case, white space or a final .0, such as "
                f"{first!r:.60} and {second!r:.60}: they count as different {kind}s; make them equal if they are one"
            )
    return found


def similar_ids(ids: np.ndarray) -> tuple[int, str, str] | None:
    """Return the number of ids that differ from another only by case, white space or `.0`, and the first pair."""
    known: dict[str, str] = {}
    number, pair = 0, None
    for name in ids.tolist():
        key = re.sub(r"\s+", "", re.sub(r"\.0+$", "", name)).casefold()
        other = known.setdefault(key, name)
        if other != name:
            number, pair = number + 1, pair or (other, name)
    return None if pair is None else (number, *pair)


def notices(interactions: Interactions) -> list[str]:
    """Return warnings about valid splits, one line each.

    Args:
        interactions: The splits.

    Raises:
        DataError: If every user has every item in training, so that there are no negatives.
    """
    full = np.flatnonzero(np.diff(interactions.train.indptr) == interactions.num_items)
    if len(full) == interactions.num_users:
        raise DataError(
            f"source: expected users with unseen items, got {len(full):,} users with all "
            f"{interactions.num_items:,} items in training; add items, or raise --min_rating"
        )
    found = []
    if len(full):
        found.append(
            f"{len(full):,} users have every item in training, the first is {str(interactions.user_ids[full[0]])!r}: "
            "they have no negatives and no candidates; remove them (bots?), or raise --min_rating"
        )
    for split in SPLITS[1:]:
        if interactions.matrix(split).nnz == 0:
            found.append(f"{split} is empty, so that it gives no metrics; use larger --ratios or more data")
    without = [int((np.diff(interactions.matrix(split).indptr) == 0).sum()) for split in SPLITS[1:]]
    if any(without) and all(interactions.matrix(split).nnz for split in SPLITS[1:]):
        found.append(
            f"of {interactions.num_users:,} users {without[0]:,} have no pair in valid and {without[1]:,} none in "
            "test: metrics leave them out; --split last takes the last pair of every user with two or more for test"
        )
    unseen = int((np.bincount(interactions.train.indices, minlength=interactions.num_items) == 0).sum())
    if unseen:
        found.append(f"{unseen:,} items have no training interaction: they can be learnt only from their texts")
    return found


def _num_distinct(numbers: np.ndarray) -> int:
    """Return how many distinct non-negative integers there are."""
    return int(np.count_nonzero(np.bincount(numbers))) if len(numbers) else 0
