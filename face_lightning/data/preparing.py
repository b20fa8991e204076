"""From rows of files to the three splits: threshold, one of each pair, k-core, split; every step is counted."""

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
    """How rows become splits.

    Attributes:
        min_rating: Least rating that counts; None takes every row.
        core: Least number of interactions of every user and item, in all splits together; 1 keeps everything.
        split: "random" splits the pairs of each user in `ratios`; "global" all pairs at random; "temporal" all
            pairs by time; "last" keeps the last pairs of each user by time; "given" takes the files' own split.
        ratios: Relative sizes of train, valid and test, for "random", "global" and "temporal".
        last_n: How many pairs of a user go into valid and as many into test, for "last".
        seed: Seed of the random splits.

    Raises:
        ConfigurationError: If a value makes no sense.
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
                raise ConfigurationError(f"{name}: expected at least 1, got {getattr(self, name)}; leave it out for 1")
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
        """Whether rows must have a time."""
        return self.split in ("temporal", "last")


class Step(NamedTuple):
    """What is left after a step."""

    step: str
    num_interactions: int
    num_users: int
    num_items: int


class _Rows(NamedTuple):
    """Rows that are left; `files` turns into the number of the split."""

    users: np.ndarray
    items: np.ndarray
    times: np.ndarray | None
    files: np.ndarray

    def take(self, which: np.ndarray) -> "_Rows":
        return _Rows(*(None if part is None else part[which] for part in self))  # type: ignore[arg-type]

    def counted(self, step: str) -> Step:
        return Step(step, len(self.users), _distinct(self.users), _distinct(self.items))


def prepare(pairs: RawPairs, recipe: Recipe, name: str) -> tuple[Interactions, list[Step]]:
    """Filter and split.

    Args:
        pairs: Rows as they stand in the files.
        recipe: What to do with them.
        name: Name of the data set.

    Returns:
        The splits, whatever the order of the rows, and what every step left.

    Raises:
        DataError: If a step leaves nothing, or times are needed and there are none.
    """
    if recipe.needs_time and pairs.times is None:
        raise DataError(
            f"split: expected timestamps for a split by {recipe.split}, but no column was named; add --time COLUMN, or "
            "take --split random"
        )
    rows = _Rows(pairs.users, pairs.items, pairs.times, pairs.files)
    steps = [rows.counted("read")]
    if pairs.num_without_id:
        steps[0] = steps[0]._replace(step=f"read, without {pairs.num_without_id:,} rows that lack an id")
    if recipe.min_rating is not None:
        rows = _threshold(rows, pairs, recipe.min_rating)
        steps.append(rows.counted(f"rating >= {recipe.min_rating:g}"))
    rows = rows.take(_first_of_each(rows))
    steps.append(rows.counted("one of each pair, the earliest"))
    if recipe.core > 1:
        rows = _core(rows, recipe.core)
        steps.append(rows.counted(f"{recipe.core}-core"))
    rows = _split(rows, recipe)
    steps.append(rows.counted(_described(recipe)))
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
    """Rows whose rating counts."""
    if pairs.ratings is None:
        raise DataError("min_rating: expected ratings, but no column was named; add --rating COLUMN")
    liked = pairs.ratings >= least
    if not liked.any():
        raise DataError(
            f"min_rating: expected ratings of at least {least:g}, but the highest is {pairs.ratings.max():g}; lower "
            "--min_rating"
        )
    return rows.take(liked)


def _first_of_each(rows: _Rows) -> np.ndarray:
    """Row numbers with one row per pair: of the first file, then the earliest."""
    keys = rows.users * (np.int64(rows.items.max()) + 1) + rows.items
    if rows.times is not None:
        order = np.lexsort((rows.times, rows.files, keys))
    elif rows.files.any():
        order = np.lexsort((rows.files, keys))
    else:
        order = np.argsort(keys)  # rows of one pair are all alike
    ordered = keys[order]
    first = np.append(True, ordered[1:] != ordered[:-1])
    return np.asarray(order[first])


def _core(rows: _Rows, core: int) -> _Rows:
    """Rows of the k-core."""
    kept = k_core(rows.users, rows.items, core)
    if not kept.any():
        most = min(core - 1, int(np.bincount(rows.users).max()), int(np.bincount(rows.items).max()))
        largest = next(k for k in range(most, 0, -1) if k_core(rows.users, rows.items, k).any())
        raise DataError(
            f"core: expected users and items with at least {core} interactions each, but none are left of "
            f"{len(kept):,}; the largest core that leaves something is --core {largest}"
        )
    return rows.take(kept)


def _split(rows: _Rows, recipe: Recipe) -> _Rows:
    """Rows with the number of their split; pairs of users without a training pair are left out."""
    if recipe.split == "given":
        splits = rows.files
    elif recipe.split == "random":
        splits = random_split_per_user(rows.users, rows.items, recipe.ratios, recipe.seed)
    elif recipe.split == "global":
        splits = global_split(rows.users, rows.items, recipe.ratios, recipe.seed)
    elif rows.times is None:
        raise AssertionError("prepare has checked that there are times")
    elif recipe.split == "temporal":
        splits = temporal_split(rows.times, recipe.ratios)
    else:
        splits = last_split(rows.users, rows.items, rows.times, recipe.last_n)
    trained = np.zeros(int(rows.users.max()) + 1, dtype=bool)
    trained[rows.users[splits == 0]] = True
    if not trained.any():
        raise DataError(
            f"split: expected interactions to learn from, but a split by {recipe.split} leaves none for training; "
            "choose another --split"
        )
    return rows._replace(files=splits).take(trained[rows.users])


def _described(recipe: Recipe) -> str:
    """The split in words."""
    shares = ":".join(f"{ratio:g}" for ratio in recipe.ratios)
    return {
        "random": f"split of each user at random {shares}, seed {recipe.seed}",
        "global": f"split of all pairs at random {shares}, seed {recipe.seed}, users without training left out",
        "temporal": f"split of all pairs by time {shares}, users without training left out",
        "last": f"split of each user by time: the last {recipe.last_n} for test, {recipe.last_n} before for validation",
        "given": "split as given, users without training left out",
    }[recipe.split]


def notices(interactions: Interactions) -> list[str]:
    """What a person should know of splits that are otherwise sound, one line each.

    Args:
        interactions: The splits.

    Raises:
        DataError: If every user has trained on every item: nothing is left to learn against.
    """
    full = np.flatnonzero(np.diff(interactions.train.indptr) == interactions.num_items)
    if len(full) == interactions.num_users:
        raise DataError(
            f"source: expected items that a user does not know, but all {len(full):,} users have all "
            f"{interactions.num_items:,} items in training; give more items, or raise --min_rating"
        )
    found = []
    if len(full):
        found.append(
            f"{len(full):,} users have every item in training, the first is {str(interactions.user_ids[full[0]])!r}: "
            "nothing can be learnt from them or ranked for them; remove them (a robot?), or raise --min_rating"
        )
    for split in SPLITS[1:]:
        if interactions.matrix(split).nnz == 0:
            found.append(f"{split} is empty, and nothing can be measured on it; give larger --ratios or more data")
    unseen = int((np.bincount(interactions.train.indices, minlength=interactions.num_items) == 0).sum())
    if unseen:
        found.append(f"{unseen:,} items have no training interaction: only their text can say anything of them")
    return found


def _distinct(numbers: np.ndarray) -> int:
    """How many different numbers from 0 there are."""
    return int(np.count_nonzero(np.bincount(numbers))) if len(numbers) else 0
