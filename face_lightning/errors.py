"""Errors that a user can correct. The command line shows them as one line and exits with code 2."""

import math


class FaceError(Exception):
    """Base class of errors; the message names the argument, what was expected, what was given, and the cure."""


class DataError(FaceError):
    """Interactions, texts or vectors are missing, damaged, or inconsistent with each other."""


class ConfigurationError(FaceError):
    """Arguments are invalid, or contradict each other."""


class CheckpointError(FaceError):
    """A checkpoint is missing, damaged, or belongs to another stage or size."""


class TrainingError(FaceError):
    """Training has diverged."""


class MissingDependencyError(FaceError):
    """An optional package that the configuration needs is not installed."""


def check_range(
    name: str, value: float, *, least: float = -math.inf, above: float = -math.inf, most: float = math.inf, usual: str
) -> None:
    """Raise unless a number is in its range.

    Args:
        name: Name of the argument, as the user writes it.
        value: Value of the argument; NaN is out of every range.
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
