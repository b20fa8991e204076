"""Errors that a user can correct. The command line shows them as one line and exits with code 2."""

import math


class FaceError(Exception):
    """Base class; the message says what was expected, what came and how to correct it."""


class DataError(FaceError):
    """Interactions, texts or vectors that are missing, damaged or do not fit together."""


class ConfigurationError(FaceError):
    """Arguments that are wrong by themselves or contradict each other."""


class CheckpointError(FaceError):
    """A checkpoint that is missing, damaged, or belongs to another stage or size."""


class TrainingError(FaceError):
    """A training that has diverged."""


class MissingDependencyError(FaceError):
    """An optional package that the configuration demands is not installed."""


def check_range(
    name: str, value: float, *, least: float = -math.inf, above: float = -math.inf, most: float = math.inf, usual: str
) -> None:
    """Raise unless a number is in its range.

    Args:
        name: Argument, as the user writes it.
        value: Value; NaN is in no range.
        least: Lower bound, inclusive.
        above: Lower bound, exclusive.
        most: Upper bound, inclusive.
        usual: Usual value, shown as the cure.

    Raises:
        ConfigurationError: If `value` is out of range.
    """
    if value >= least and value > above and value <= most:
        return
    bounds = [f"at least {least}"] * (least > -math.inf) + [f"more than {above}"] * (above > -math.inf)
    bounds += [f"at most {most}"] * (most < math.inf)
    raise ConfigurationError(f"{name}: expected {' and '.join(bounds)}, got {value}; {usual} is usual")
