"""Parsing of untrusted YAML, with limits on aliases and nesting, which could otherwise exhaust time and memory."""

from typing import Any

import yaml
from jsonargparse import get_loader, set_loader

from face_lightning.errors import ConfigurationError

_MAX_VALUES = 100_000  # per document, with aliases expanded
_load = get_loader("yaml")


def bound_yaml() -> None:
    """Make jsonargparse read all YAML by `load_yaml`."""
    set_loader("yaml", load_yaml, exceptions=(yaml.YAMLError,))


def load_yaml(text: str) -> Any:  # noqa: ANN401
    """Parse a document as jsonargparse does.

    Raises:
        ConfigurationError: If its aliases expand to too many values.
        YAMLError: If it is not YAML, or nested too deeply.
    """
    try:
        if "&" in text and "*" in text:
            size = _size(yaml.compose(text, Loader=yaml.SafeLoader), {})
            if size > _MAX_VALUES:
                raise ConfigurationError(
                    f"config: expected at most {_MAX_VALUES:,} values, but aliases expand to {size:.0e} or more; "
                    "write the values without aliases"
                )
        return _load(text)
    except RecursionError as error:
        raise yaml.YAMLError("nested too deeply") from error


def _size(node: yaml.Node | None, sizes: dict[int, int]) -> int:
    """Number of values of a node with aliases expanded; `sizes` caches it by node id."""
    if not isinstance(node, yaml.CollectionNode):
        return 1
    if id(node) not in sizes:
        sizes[id(node)] = _MAX_VALUES + 1  # seen only by a node that contains itself
        members = [part for pair in node.value for part in (pair if isinstance(pair, tuple) else (pair,))]
        sizes[id(node)] = 1 + sum(_size(member, sizes) for member in members)
    return sizes[id(node)]
