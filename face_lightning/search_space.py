"""Search spaces of hyper-parameters; each class defines that of its own arguments."""

from collections.abc import Mapping
from typing import NamedTuple


class Between(NamedTuple):
    """A number in a closed interval, sampled on a logarithmic scale unless `log` is false."""

    low: float
    high: float
    log: bool = True


class OneOf(NamedTuple):
    """A categorical value."""

    values: tuple[int | float | str | bool, ...]


SearchSpace = Mapping[str, Between | OneOf]
