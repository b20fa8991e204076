"""Files and folders: checks before reading, and atomic writes."""

import contextlib
import json
import math
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from face_lightning.errors import DataError


def check_regular(argument: str, path: Path, cure: str = "correct the path") -> None:
    """Raise if a path is a folder, or a device or pipe, which may never end. A missing file is left to `open`.

    Args:
        argument: Name of the argument that holds the path.
        path: Path to check.
        cure: What the user should do instead.

    Raises:
        DataError: If the path exists and is not a regular file.
    """
    if path.exists() and not path.is_file():
        raise DataError(f"{argument}: expected a file, got {path}; {cure}")


@contextmanager
def temporary_path(path: Path) -> Iterator[Path]:
    """Yield an unused path in the folder of `path`, and remove the file or folder created there at the end.

    The name `.{name}.{random}.tmp` is unique across processes, and across machines that share a disk.
    """
    path = path.absolute()
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}.tmp")
    try:
        yield temporary
    finally:
        with contextlib.suppress(OSError):  # an error here would hide the original one
            if temporary.is_dir():
                shutil.rmtree(temporary)
            else:
                temporary.unlink(missing_ok=True)


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Write a file atomically: yield a temporary path, whose file replaces `path` at the end of the block.

    If the block raises, `path` does not change and the temporary file is removed.

    Raises:
        OSError: If the file cannot be renamed.
    """
    with temporary_path(path) as temporary:
        yield temporary
        umask = os.umask(0)  # the umask can only be read by setting it
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)  # safetensors creates files that only their owner can read
        temporary.replace(path)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Write a folder atomically: yield a new, empty folder, which replaces `path` at the end of the block.

    Parents are created. If the block raises, `path` does not change and the temporary folder is removed.

    Raises:
        OSError: If a folder cannot be created or renamed; `path` then does not change.
    """
    with temporary_path(path) as temporary, temporary_path(path) as old:
        temporary.mkdir(parents=True)
        yield temporary
        if not path.exists():
            temporary.rename(path)
            return
        path.rename(old)  # a non-empty folder cannot be replaced in one step
        try:
            temporary.rename(path)
        except BaseException:
            old.rename(path)
            raise


def strict_json(value: Any, indent: int | None = None) -> str:  # noqa: ANN401
    """Serialise `value` to standard JSON: NaN and infinity, which JSON does not have, become null."""
    return json.dumps(_finite(value), indent=indent, allow_nan=False)


def _finite(value: Any) -> Any:  # noqa: ANN401
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_atomically(path: Path, text: str) -> None:
    """Write a text file in UTF-8; see `atomic_path`."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")
