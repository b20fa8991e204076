"""Summaries on disk, appended line by line, so that an interrupted run continues where it stopped."""

import json
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from face_lightning.errors import DataError
from face_lightning.text.writing.writer import Summary


class Journal:
    """Summaries of one writer with one prompt, by the key of their inputs.

    Failures are not recorded: the next run tries them again.

    Args:
        path: JSONL file; created with its folder if missing.

    Raises:
        DataError: If the file cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: IO[str] | None = None
        self._known: dict[str, Summary] = {}
        if path.is_file():
            try:
                lines = path.read_bytes().split(b"\n")
            except OSError as error:
                raise DataError(
                    f"cache_dir: cannot read {path} ({error.strerror}); give another --cache_dir"
                ) from error
            for line in lines:
                entry = _entry(line)
                if entry is not None:  # a line that a crash truncated is written again
                    self._known[entry[0]] = entry[1]

    def __enter__(self) -> Self:
        """Open the file for appending."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        broken = self.path.is_file() and self.path.stat().st_size > 0 and not _ends_with_newline(self.path)
        self._file = self.path.open("a", encoding="utf-8", buffering=1)
        if broken:
            self._file.write("\n")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()

    def get(self, key: str) -> Summary | None:
        """Return the summary of a key; None if there is none yet."""
        return self._known.get(key)

    def add(self, key: str, summary: Summary) -> None:
        """Append a summary; it is on disk when this returns.

        Raises:
            DataError: If it cannot be written, e.g. because the disk is full; earlier lines are kept.
        """
        if self._file is None or summary.text is None:
            raise ValueError("expected an open journal and a summary with a text")
        line = {
            "key": key,
            "text": summary.text,
            "prompt_tokens": summary.prompt_tokens,
            "completion_tokens": summary.completion_tokens,
        }
        try:
            self._file.write(json.dumps(line, ensure_ascii=False) + "\n")
            self._file.flush()
        except OSError as error:
            raise DataError(
                f"cache_dir: cannot write {self.path} ({error.strerror}); make room and run again, summaries written "
                "so far are kept"
            ) from error
        self._known[key] = summary


def _entry(line: bytes) -> tuple[str, Summary] | None:
    """Return key and summary of a line; None for a malformed line."""
    try:
        entry = json.loads(line)
        key, text, *counts = (entry[name] for name in ("key", "text", "prompt_tokens", "completion_tokens"))
    except (ValueError, KeyError, TypeError):
        return None
    if not (isinstance(key, str) and isinstance(text, str) and all(isinstance(count, int) for count in counts)):
        return None
    return key, Summary(text, None, *counts)


def _ends_with_newline(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, 2)
        return file.read(1) == b"\n"
