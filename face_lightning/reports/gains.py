"""Test metrics with confidence intervals, paired tests against other runs, and gains of groups of users and items."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.special import stdtrit  # scipy.stats takes over a second to import

from face_lightning.errors import ConfigurationError
from face_lightning.recommending.recommender import Recommender
from face_lightning.reports.run_record import RunRecord
from face_lightning.runs.inference import Seen, check_seen
from face_lightning.significance import compare_paired, correct_holm

NUM_GROUPS = 5
MOST_RANKED = 20_000  # test users who are ranked to count the hits of items
CONFIDENCE = 0.95
_DASH = "\N{EN DASH}"


class Estimate(NamedTuple):
    """A mean, and half the width of its 95 % t-interval over users; NaN if there are too few users."""

    mean: float
    half_width: float


class PairedTest(NamedTuple):
    """Paired t test of a metric between the run and another one."""

    other: str
    metric: str
    difference: Estimate
    statistic: float
    probability: float
    corrected: float


class Group(NamedTuple):
    """Users of similar activity, or items of similar popularity, and their gain over other runs.

    Attributes:
        label: Range of the numbers of training interactions.
        size: Number of users or items.
        value: Mean recall of the group's users, or share of the items' test interactions that are recommended.
        gains: Difference of `value` from each compared run, by its name.
    """

    label: str
    size: int
    value: float
    gains: dict[str, Estimate]


def estimate(values: np.ndarray, count: float | None = None) -> Estimate:
    """Mean of the values of users `(N,)` with its interval; if `count` is given, it is the divisor instead of N."""
    num_users = len(values)
    scale = 1.0 if count is None else num_users / count
    if num_users < 2:
        return Estimate(float(values.mean()) * scale if num_users else float("nan"), float("nan"))
    half_width = stdtrit(num_users - 1, (1 + CONFIDENCE) / 2) * values.std(ddof=1) / num_users**0.5
    return Estimate(float(values.mean()) * scale, float(half_width) * scale)


def check_comparable(run: RunRecord, others: Sequence[RunRecord]) -> None:
    """Check that runs have the same test users and metrics.

    Raises:
        ConfigurationError: If they differ.
    """
    for other in others:
        if other.user_ids != run.user_ids:
            raise ConfigurationError(
                f"compare: expected runs that were tested on the same users as {run.folder}, but {other.folder} has "
                f"{'others' if len(other.user_ids) == len(run.user_ids) else len(other.user_ids)} instead of its "
                f"{len(run.user_ids)}; compare runs of the same data"
            )
        if other.test_metrics != run.test_metrics:
            raise ConfigurationError(
                f"compare: expected the metrics {', '.join(run.test_metrics)}, but {other.folder} has "
                f"{', '.join(other.test_metrics)}; test it with the same top_k"
            )


def paired_tests(run: RunRecord, others: Sequence[RunRecord], metrics: Sequence[str]) -> list[PairedTest]:
    """Student's t tests of the run against each other one, with p-values corrected by Holm's method over all tests."""
    pairs = [(other, metric) for metric in metrics for other in others]
    compared = [compare_paired(run.user_metrics[metric], other.user_metrics[metric]) for other, metric in pairs]
    corrected = correct_holm([found.probability for found in compared])
    return [
        PairedTest(
            other.name,
            metric,
            estimate(run.user_metrics[metric] - other.user_metrics[metric]),
            found.statistic,
            found.probability,
            holm,
        )
        for (other, metric), found, holm in zip(pairs, compared, corrected, strict=True)
    ]


def by_activity(run: RunRecord, others: Sequence[RunRecord], recommender: Recommender, metric: str) -> list[Group]:
    """Gain of users, grouped by the number of their training interactions into groups of about equal size."""
    starts, _ = recommender.seen.training()
    activity = np.diff(starts)[recommender.user_rows(run.user_ids)]
    groups = []
    for label, rows in _split(activity, np.ones(len(activity))):
        gains = {
            other.name: estimate((run.user_metrics[metric] - other.user_metrics[metric])[rows]) for other in others
        }
        groups.append(Group(label, len(rows), float(run.user_metrics[metric][rows].mean()), gains))
    return groups


def by_popularity(
    run: RunRecord, others: Sequence[RunRecord], recommenders: dict[str, Recommender], top_k: int
) -> list[Group]:
    """Gain of items, grouped by the number of their training interactions.

    Groups have about the same number of test interactions. The value of a group is the share of test interactions with
    its items that are in the user's top K; the interval of its difference between runs is over users. Runs without
    embeddings are left out. Of more than `MOST_RANKED` users, evenly spaced ones are ranked.

    Args:
        run: Run of the report.
        others: Runs to compare with.
        recommenders: Recommenders of the run and of the others by name.
        top_k: K.
    """
    own = recommenders[run.name]
    users = own.user_rows(run.user_ids)
    users = users[:: max(1, -(-len(users) // MOST_RANKED))]
    num_items = len(own.entities.item_ids)
    tested = own.seen.matrix(2, num_items)[users].tocoo()
    popularity = np.bincount(own.seen.training()[1], minlength=num_items)
    frequency = np.bincount(tested.col, minlength=num_items)
    ranked = [other for other in (run, *others) if other.name in recommenders]
    hits = {other.name: _hits(recommenders[other.name], users, tested, top_k, _masked(run)) for other in ranked}
    groups = []
    for label, items in _split(popularity, frequency):
        member = np.isin(tested.col, items)
        count = float(member.sum())
        sums = {name: np.bincount(tested.row[member & hit], minlength=len(users)) for name, hit in hits.items()}
        gains = {
            other.name: estimate((sums[run.name] - sums[other.name]).astype(np.float64), count) for other in ranked[1:]
        }
        groups.append(Group(label, len(items), float(sums[run.name].sum()) / count, gains))
    return groups


def _masked(run: RunRecord) -> Seen:
    """Splits whose interactions were masked in the run's test."""
    return check_seen((run.config.get("data") or {}).get("mask_seen") or "train") or "train"


def _hits(recommender: Recommender, users: np.ndarray, tested: Any, top_k: int, masked: Seen) -> np.ndarray:  # noqa: ANN401
    """Whether each test interaction is in the top K of its user, `(N,)`."""
    num_items = len(recommender.entities.item_ids)
    tiles = list(recommender.rank(users, min(top_k, num_items), masked))
    rows = np.concatenate([tile.rows for tile in tiles]).astype(np.int64)
    counts = np.concatenate([tile.counts for tile in tiles])
    recommended = np.arange(len(users))[:, None] * num_items + rows
    recommended = recommended[np.arange(rows.shape[1]) < counts[:, None]]
    return np.isin(tested.row.astype(np.int64) * num_items + tested.col, recommended)


def _split(degrees: np.ndarray, weights: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """Split entities by degree into groups of about the same total weight; returns ranges and indices of members."""
    values, value_ids = np.unique(degrees, return_inverse=True)
    cumulative = np.bincount(value_ids, weights=weights, minlength=len(values)).cumsum()
    if not cumulative[-1]:
        return []
    group_ids = np.minimum((cumulative - 1e-9) / cumulative[-1] * NUM_GROUPS, NUM_GROUPS - 1).astype(int)
    groups = []
    for group in np.unique(group_ids):
        span = values[group_ids == group]
        members = np.flatnonzero(group_ids[value_ids] == group)
        if weights[members].sum():
            groups.append((f"{span[0]}" if len(span) == 1 else f"{span[0]}{_DASH}{span[-1]}", members))
    return groups
