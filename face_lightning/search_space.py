"""Ranges of hyper-parameters that are worth a search; classes name those of their own arguments."""

from collections.abc import Mapping
from typing import NamedTuple


class Between(NamedTuple):
    """A number between two others, both included; drawn on a logarithmic scale unless `log` is false."""

    low: float
    high: float
    log: bool = True


class OneOf(NamedTuple):
    """One of some values."""

    values: tuple[int | float | str | bool, ...]


SearchSpace = Mapping[str, Between | OneOf]
