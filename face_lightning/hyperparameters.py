"""Hyper-parameters as checkpoints keep them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any


def plain_values(value: Any) -> Any:  # noqa: ANN401
    """`value` with numbers, strings, lists and dictionaries alone; other objects become None.

    Of an absolute path the last part alone is kept: the rest means nothing on another machine, and reveals this one.
    """
    if isinstance(value, Mapping):
        return {str(key): plain_values(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain_values(item) for item in value]
    if isinstance(value, str):
        return Path(value).name if Path(value).is_absolute() else value
    return value if isinstance(value, bool | int | float) else None
