"""Files and folders: checks before reading, and writing that leaves the old state or the whole new one, no part."""

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
    """Refuse a folder, a device or a pipe, which may never end, in place of a file; a missing one is left to open().

    Args:
        argument: Argument that names the file.
        path: The file.
        cure: What to do instead.

    Raises:
        DataError: If it is no regular file.
    """
    if path.exists() and not path.is_file():
        raise DataError(f"{argument}: expected a file, got {path}; {cure}")


@contextmanager
def temporary_path(path: Path) -> Iterator[Path]:
    """Yield an unused path in the same folder as `path`; a file or folder that is there afterwards is removed.

    The name `.{name}.{random}.tmp` differs between processes, and between machines with a common disk.
    """
    path = path.absolute()
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}.tmp")
    try:
        yield temporary
    finally:
        with contextlib.suppress(OSError):  # an error here would hide the one that led here
            if temporary.is_dir():
                shutil.rmtree(temporary)
            else:
                temporary.unlink(missing_ok=True)


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a path to write to, whose file replaces `path` at the end of the block.

    If the block raises, `path` stays as it was and the unfinished file is removed.

    Raises:
        OSError: If the file cannot be renamed.
    """
    with temporary_path(path) as temporary:
        yield temporary
        umask = os.umask(0)  # it can only be read by setting it
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)  # safetensors writes files that only their owner may read
        temporary.replace(path)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a new, empty folder to write to, which replaces the folder at `path` at the end of the block.

    Parents are created. If the block raises, `path` stays as it was and the unfinished folder is removed.

    Raises:
        OSError: If a folder cannot be created or renamed; `path` is then as it was.
    """
    with temporary_path(path) as temporary, temporary_path(path) as old:
        temporary.mkdir(parents=True)
        yield temporary
        if not path.exists():
            temporary.rename(path)
            return
        path.rename(old)  # a folder that is not empty cannot be replaced in one step
        try:
            temporary.rename(path)
        except BaseException:
            old.rename(path)
            raise


def strict_json(value: Any, indent: int | None = None) -> str:  # noqa: ANN401
    """`value` as JSON that every parser reads: NaN and infinity, which JSON does not have, become null."""
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
