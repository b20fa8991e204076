"""Errors that a user can mend. The command line shows them as one line and exits with code 2."""

import math


class FaceError(Exception):
    """A mistake with a cure: the message says what was expected, what came and what to do."""


class DataError(FaceError):
    """Interactions, texts or vectors that are missing, damaged or do not fit together."""


class ConfigurationError(FaceError):
    """Arguments that are wrong by themselves or contradict each other."""


class CheckpointError(FaceError):
    """A checkpoint that is missing, damaged, or belongs to another stage or size."""


class MissingDependencyError(FaceError):
    """An optional package that the configuration demands is not installed."""


def check_range(
    name: str, value: float, *, least: float = -math.inf, above: float = -math.inf, most: float = math.inf, usual: str
) -> None:
    """Refuse a number that cannot be meant.

    Args:
        name: Argument, as the user writes it.
        value: What came; NaN is in no range.
        least: The least that is allowed.
        above: What it has to exceed.
        most: The most that is allowed.
        usual: The cure: what stands in most configurations.

    Raises:
        ConfigurationError: If `value` is out of range.
    """
    if value >= least and value > above and value <= most:
        return
    bounds = [f"at least {least}"] * (least > -math.inf) + [f"more than {above}"] * (above > -math.inf)
    bounds += [f"at most {most}"] * (most < math.inf)
    raise ConfigurationError(f"{name}: expected {' and '.join(bounds)}, got {value}; {usual} is usual")
