"""YAML from outside, whose aliases and nesting cannot take any amount of time and memory."""

from typing import Any

import yaml
from jsonargparse import get_loader, set_loader

from face_lightning.errors import ConfigurationError

_MOST_VALUES = 100_000  # of a document, with its aliases written out
_load = get_loader("yaml")


def bound_yaml() -> None:
    """Let jsonargparse read all YAML by `load_yaml`."""
    set_loader("yaml", load_yaml, exceptions=(yaml.YAMLError,))


def load_yaml(text: str) -> Any:  # noqa: ANN401
    """Values of a document, as jsonargparse reads them.

    Raises:
        ConfigurationError: If its aliases stand for too many values.
        YAMLError: If it is no YAML, or nested too deeply.
    """
    try:
        if "&" in text and "*" in text:
            size = _size(yaml.compose(text, Loader=yaml.SafeLoader), {})
            if size > _MOST_VALUES:
                raise ConfigurationError(
                    f"config: expected at most {_MOST_VALUES:,} values, but aliases stand for {size:.0e} or more; "
                    "write out what is meant"
                )
        return _load(text)
    except RecursionError as error:
        raise yaml.YAMLError("nested too deeply") from error


def _size(node: yaml.Node | None, known: dict[int, int]) -> int:
    """Number of values of a document, where aliases count as often as they are used."""
    if not isinstance(node, yaml.CollectionNode):
        return 1
    if id(node) not in known:
        known[id(node)] = _MOST_VALUES + 1  # of one that holds itself
        members = [part for pair in node.value for part in (pair if isinstance(pair, tuple) else (pair,))]
        known[id(node)] = 1 + sum(_size(member, known) for member in members)
    return known[id(node)]
