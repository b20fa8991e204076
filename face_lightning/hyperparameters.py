"""Hyper-parameters in the form in which checkpoints store them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any


def plain_values(value: Any) -> Any:  # noqa: ANN401
    """Reduce `value` to numbers, strings, lists and dictionaries; other objects become None.

    Absolute paths are reduced to their last part: the rest is meaningless on another machine, and private.
    """
    if isinstance(value, Mapping):
        return {str(key): plain_values(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain_values(item) for item in value]
    if isinstance(value, str):
        return Path(value).name if Path(value).is_absolute() else value
    return value if isinstance(value, bool | int | float) else None
