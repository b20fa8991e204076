"""Files of texts about entities, written by a person or a summary writer."""

import json
from pathlib import Path

from face_lightning.errors import DataError
from face_lightning.files import check_regular


def read_texts(path: Path) -> list[str | None]:
    """Read the field "text" of every object in a .jsonl file, or every line of a .txt file.

    Args:
        path: The file, in UTF-8; empty lines are skipped.

    Returns:
        One text per entry; None if its text is null.

    Raises:
        DataError: If the file is missing, not UTF-8, has another suffix, or a line is not an object with a text.
    """
    if path.suffix.lower() not in {".jsonl", ".txt"}:
        raise DataError(
            f"texts: expected a .jsonl or .txt file, got {path}; write one JSON object or one text per line"
        )
    check_regular("texts", path)
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"texts: cannot read {path} ({type(error).__name__}); give a text file in UTF-8") from error
    if path.suffix.lower() == ".txt":
        return [line.strip() for line in lines if line.strip()]
    texts: list[str | None] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            text = json.loads(line)["text"]
            if not isinstance(text, str | None):
                raise TypeError(f"text is {type(text).__name__}")
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise DataError(
                f'texts: expected a JSON object with the field "text" in {path}, line {number}, got {error!s:.80}; '
                "correct the line"
            ) from error
        texts.append(text)
    return texts
