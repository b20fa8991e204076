"""Intervals, paired tests and groups, compared to naive loops and hand-computed values."""

from pathlib import Path

import numpy as np
import pytest

from face_lightning.errors import ConfigurationError
from face_lightning.recommending.recommender import Recommender
from face_lightning.reports.gains import (
    by_activity,
    by_popularity,
    check_comparable,
    estimate,
    paired_tests,
)
from face_lightning.reports.run_record import RunRecord
from tests.recommending.test_recommender import write_run

METRIC = "test/recall@2"


def record(folder: Path, name: str, values: list[float], ids: tuple[str, ...] = ("ann", "bob")) -> RunRecord:
    result = {"metrics": {METRIC: float(np.mean(values))}, "stage": "mapping"}
    return RunRecord(folder, name, result, {}, {}, [], list(ids), {METRIC: np.array(values)})


def test_intervals_follow_the_t_distribution_over_users() -> None:
    # sd 1 of 1, 2, 3; t of 2 degrees of freedom at 0.975 is 4.302653
    found = estimate(np.array([1.0, 2.0, 3.0]))
    assert found.mean == 2
    assert found.half_width == pytest.approx(4.302653 / 3**0.5)
    of_sums = estimate(np.array([1.0, 2.0, 3.0]), 12)  # 6 hits of 12 interactions
    assert of_sums == pytest.approx((0.5, 4.302653 / 3**0.5 * 3 / 12))
    assert np.isnan(estimate(np.array([1.0])).half_width)


def test_paired_tests_are_corrected_together(tmp_path: Path) -> None:
    ids = ("a", "b", "c", "d")
    run = record(tmp_path, "run", [0.5, 0.6, 0.7, 0.9], ids)
    others = [record(tmp_path, name, values, ids) for name, values in (("x", [0.1, 0.3, 0.2, 0.1]), ("y", [0.5] * 4))]
    first, second = paired_tests(run, others, [METRIC])
    assert (first.other, second.other) == ("x", "y")
    assert first.difference.mean == pytest.approx(0.5)
    assert first.corrected == pytest.approx(2 * first.probability)
    assert second.corrected == pytest.approx(second.probability)


def test_runs_with_other_users_or_metrics_are_rejected(tmp_path: Path) -> None:
    run = record(tmp_path, "run", [0.5, 0.5])
    with pytest.raises(ConfigurationError, match="compare: expected runs that were tested on the same users"):
        check_comparable(run, [record(tmp_path, "other", [0.5, 0.5], ("ann", "eve"))])
    other = record(tmp_path, "other", [0.5, 0.5])
    other.result["metrics"] = {"test/recall@3": 0.5}
    with pytest.raises(ConfigurationError, match=r"compare: expected the metrics test/recall@2, but .* has test/rec"):
        check_comparable(run, [other])


def test_gains_by_activity_and_popularity(tmp_path: Path) -> None:
    # ann: 10 in training, tested on 30, ranks 20 30 40; bob: 50 in training, tested on 40, ranks 40 30 20
    run = record(write_run(tmp_path / "run"), "run", [1.0, 1.0])
    other = record(write_run(tmp_path / "other"), "other", [0.5, 0.0])
    recommenders = {"run": Recommender.load(run.folder), "other": Recommender.load(other.folder)}
    recommenders["other"]._embeddings.users.neg_()  # ann ranks 50 40 30, bob 10 20 30
    (group,) = by_activity(run, [other], recommenders["run"], METRIC)  # one training interaction each
    assert (group.label, group.size, group.value) == ("1", 2, 1.0)
    assert group.gains["other"].mean == pytest.approx(0.75)
    (group,) = by_popularity(run, [other], recommenders, 2)  # both tested items are hit
    assert (group.label, group.size, group.value) == ("0\N{EN DASH}2", 5, 1.0)
    assert group.gains["other"].mean == 1.0
    (group,) = by_popularity(run, [other], recommenders, 3)  # the other finds 30 for ann at its third place
    assert group.gains["other"].mean == 0.5
