"""Tests of the greedy path: by hand, on concave functions, and after a restore."""

import pytest

from face_lightning.stages.greedy_path import GreedyPath


def walk(path: GreedyPath, values: list[float]) -> list[tuple[int, ...]]:
    taken = []
    for value in values:
        path.observe(value)
        path.advance()
        taken.append(path.steps)
    return taken


def test_path_continues_while_values_rise_and_otherwise_turns_at_the_best() -> None:
    path = GreedyPath(2, patience=2)
    assert walk(path, [0.1, 0.2, 0.2, 0.19]) == [(1, 0), (2, 0), (3, 0), (1, 1)]  # the best was at (1, 0)
    assert path.best_steps == (1, 0)
    assert walk(path, [0.3, 0.2, 0.3]) == [(1, 2), (1, 3), (2, 1)]
    assert walk(path, [0.1, 0.1]) == [(3, 1), (1, 2)], "directions are cyclic"


@pytest.mark.parametrize("best", [(0, 0), (3, 0), (0, 4), (6, 5)])
def test_finds_the_maximum_of_a_concave_function(best: tuple[int, int]) -> None:
    path = GreedyPath(2)
    for _ in range(40):
        path.observe(-sum((step - at) ** 2 for step, at in zip(path.steps, best, strict=True)))
        path.advance()
    assert path.best_steps == best


def test_no_step_without_a_new_value() -> None:
    path = GreedyPath(2)
    path.advance()
    assert path.steps == (0, 0)
    path.observe(0.1)
    path.advance()
    path.advance()
    assert path.steps == (1, 0)


def test_restored_path_continues_identically() -> None:
    path, restored = GreedyPath(2), GreedyPath(2)
    walk(path, [0.1, 0.2, 0.1])
    path.observe(0.1)  # `advance` has not acted on this value yet
    restored.load_state_dict(path.state_dict())
    for each in (path, restored):
        each.advance()
    assert restored.steps == path.steps == (1, 1)
    assert walk(restored, [0.3, 0.2, 0.1]) == walk(path, [0.3, 0.2, 0.1])
