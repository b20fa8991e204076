"""Greedy search over settings during one run: one step after each validation."""

import math
from typing import Any


class GreedyPath:
    """Coordinate ascent on a validation value over the number of steps taken in each direction.

    The path advances in one direction while validation improves. After `patience` consecutive values without
    improvement it returns to the best position and switches to the next direction, cyclically. It has no end of its
    own: early stopping with a patience of `patience * num_directions` lets every direction be tried.

    Attributes:
        steps: Current number of steps in each direction.
        best_steps: Number of steps in each direction at the best value so far.

    Args:
        num_directions: Number of directions.
        patience: Consecutive values without improvement after which the direction changes.
    """

    def __init__(self, num_directions: int, patience: int = 2) -> None:
        self.patience = patience
        self.steps = self.best_steps = (0,) * num_directions
        self._best_value = -math.inf
        self._num_worse = 0  # consecutive values without improvement
        self._direction = 0
        self._is_due = False

    def observe(self, value: float) -> None:
        """Record the validation value of the current steps; the next `advance` acts on it."""
        self._is_due = True
        if value > self._best_value:
            self._best_value, self.best_steps, self._num_worse = value, self.steps, 0
        else:
            self._num_worse += 1

    def advance(self) -> None:
        """Take a step, if a value was observed since the last one."""
        if not self._is_due:
            return
        self._is_due = False
        if self._num_worse and self._num_worse % self.patience == 0:
            self.steps = self.best_steps
            self._direction = (self._direction + 1) % len(self.steps)
        self.steps = tuple(count + (index == self._direction) for index, count in enumerate(self.steps))

    def state_dict(self) -> dict[str, Any]:
        """Return the state for `load_state_dict`."""
        return {key: value for key, value in vars(self).items() if key != "patience"}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state returned by `state_dict`."""
        vars(self).update(state)
