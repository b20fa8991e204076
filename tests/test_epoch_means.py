"""Tests of means over an epoch: weighting, names, and resumes."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from face_lightning.epoch_means import EpochMeans

STEPS = st.lists(st.tuples(st.floats(-1e3, 1e3, width=32), st.integers(1, 5)), min_size=1, max_size=12)


@given(STEPS, st.integers(0, 12))
def test_means_are_weighted_and_bit_identical_after_a_resume(steps: list[tuple[float, int]], stop: int) -> None:
    whole, cut = EpochMeans(), EpochMeans()
    for number, (value, weight) in enumerate(steps):
        if number == stop:
            resumed = EpochMeans()
            resumed.load_state_dict(cut.state_dict())
            cut = resumed
        for means in (whole, cut):
            means.update({"a": torch.tensor(value), "b": torch.tensor(1.0)}, weight)
    expected = sum(value * weight for value, weight in steps) / sum(weight for _, weight in steps)
    assert float(whole.compute()["a"]) == pytest.approx(expected, rel=1e-5, abs=1e-4)
    assert whole.compute() == cut.compute()
    assert float(whole.compute()["b"]) == 1


def test_groups_of_names_and_reset() -> None:
    means = EpochMeans()
    means.update({"a": torch.tensor(1.0), "b": torch.tensor(2.0)}, 1)
    means.update({"a": torch.tensor(4.0)}, 2)
    means.update({"c": torch.tensor(9.0)}, 0)
    assert {name: float(value) for name, value in means.compute().items()} == {"a": 3, "b": 2, "c": 0}
    means.reset()
    assert means.compute() == means.state_dict() == {}
