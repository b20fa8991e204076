"""Files of texts: what a person, or a summary writer, says of entities."""

import json
from pathlib import Path

from face_lightning.errors import DataError


def read_texts(path: Path) -> list[str | None]:
    """Read texts: of a .jsonl file the field "text" of every object, of a .txt file every line.

    Args:
        path: The file, in UTF-8; empty lines are passed over.

    Returns:
        One text per entry; None where an object has none.

    Raises:
        DataError: If the file is missing, not UTF-8, has another ending, or a line is no object with a text.
    """
    if path.suffix.lower() not in {".jsonl", ".txt"}:
        raise DataError(f"texts: expected a file .jsonl or .txt, got {path}; write one JSON object or text a line")
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
                "mend the line"
            ) from error
        texts.append(text)
    return texts
