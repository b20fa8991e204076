"""Results of `face judge`, the accuracy of independent judges given a run's words, as saved in its folder."""

import json
from pathlib import Path
from typing import Any

from face_lightning.errors import DataError

JUDGEMENTS = "judgements.jsonl"
_NAMES = ("judge", "kind", "words", "entities")


def read_judgements(folder: Path) -> tuple[list[str], list[list[Any]]]:
    """Read the columns, and one row for each judge, kind of entity and variant of words; no rows if there is no file.

    Raises:
        DataError: If the file is damaged.
    """
    path = folder / JUDGEMENTS
    if not path.is_file():
        return [*_NAMES], []
    try:
        records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        keys = dict.fromkeys(key for record in records for key in record)
        tasks = [key for key in keys if key not in (*_NAMES, "seed")]
        rows = [[*(record[name] for name in _NAMES), *(record.get(task) for task in tasks)] for record in records]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"run: {path} is damaged ({error!r}); run face judge again, or remove it") from error
    return [*_NAMES, *tasks], rows
