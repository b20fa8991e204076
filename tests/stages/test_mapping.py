"""What stage 2 tells before it starts."""

import pytest

from face_lightning.stages.mapping import told_of_visits


def test_enough_visits_are_not_spoken_of() -> None:
    assert told_of_visits(visits=2, epochs=8) is None


@pytest.mark.parametrize(("visits", "epochs", "needed"), [(1.0, 15, 30), (0.7, 10, 43), (0.01, 1, 3000)])
def test_few_visits_are_told_with_the_epochs_that_suffice(visits: float, epochs: int, needed: int) -> None:
    told = told_of_visits(visits, epochs)
    assert told is not None
    assert f"mapped {visits * epochs:.1f} times in {epochs} epochs" in told
    assert f"max_epochs to {needed}," in told
    assert told_of_visits(visits, needed) is None
