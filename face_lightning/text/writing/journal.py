"""Summaries on disk, line by line as they get ready, so that an interrupted run goes on where it stopped."""

import json
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from face_lightning.errors import DataError
from face_lightning.text.writing.writer import Summary


class Journal:
    """Summaries of one writer with one prompt, by the key of what they depend on.

    Failures are not kept: the next run tries them again.

    Args:
        path: JSONL file; made with its folder where there is none.

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
                if entry is not None:  # a line that a crash cut off is written anew
                    self._known[entry[0]] = entry[1]

    def __enter__(self) -> Self:
        """Open the file for what is added."""
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
        """Return the summary of a key; None where there is none yet."""
        return self._known.get(key)

    def add(self, key: str, summary: Summary) -> None:
        """Append a summary; it is on disk when this returns.

        Raises:
            DataError: If it cannot be written, as on a full disk; what came before is kept.
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
                f"cache_dir: cannot write {self.path} ({error.strerror}); make room and run again, what is written "
                "is kept"
            ) from error
        self._known[key] = summary


def _entry(line: bytes) -> tuple[str, Summary] | None:
    """Return key and summary of a line; None for one that is none."""
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
