"""A greedy path through settings: one step after every validation, in the direction that validation prefers."""

import math
from typing import Any


class GreedyPath:
    """Coordinate ascent over numbers of steps in several directions.

    It goes on in a direction while validation improves. After `patience` values in a row that are no better than the
    best, it returns to the best steps and takes the next direction, after the last one the first again. Early
    stopping ends it: a patience of that of the path times the number of directions lets every direction be tried.

    Attributes:
        steps: Number of steps in each direction that the tables at hand are trained with.
        best_steps: Those of the best value so far.

    Args:
        num_directions: Number of directions.
        patience: Values in a row without an improvement after which the direction changes.
    """

    def __init__(self, num_directions: int, patience: int = 2) -> None:
        self.patience = patience
        self.steps = self.best_steps = (0,) * num_directions
        self._best_value = -math.inf
        self._num_worse = 0  # values in a row that were no better than the best
        self._direction = 0
        self._is_due = False

    def observe(self, value: float) -> None:
        """Take in the validation of the current steps; the next `advance` acts on it."""
        self._is_due = True
        if value > self._best_value:
            self._best_value, self.best_steps, self._num_worse = value, self.steps, 0
        else:
            self._num_worse += 1

    def advance(self) -> None:
        """Take a step, if validation was observed since the last one."""
        if not self._is_due:
            return
        self._is_due = False
        if self._num_worse and self._num_worse % self.patience == 0:
            self.steps = self.best_steps
            self._direction = (self._direction + 1) % len(self.steps)
        self.steps = tuple(count + (index == self._direction) for index, count in enumerate(self.steps))

    def state_dict(self) -> dict[str, Any]:
        """All that `load_state_dict` needs to go on."""
        return {key: value for key, value in vars(self).items() if key != "patience"}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state_dict` was taken."""
        vars(self).update(state)
