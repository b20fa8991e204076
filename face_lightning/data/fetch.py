"""Downloads data sets that may not be redistributed, from their publishers or from PyPI."""

import hashlib
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from face_lightning.data.movielens import (
    MovieLensTables,
    parse_archive,
    read_source,
    read_tables,
    write_tables,
)
from face_lightning.errors import DataError

GROUPLENS_URL = "https://files.grouplens.org/datasets/movielens/ml-100k.zip"
GROUPLENS_MD5 = "0e33842e24a9c977be4e0107933c0723"  # as GroupLens publishes it
WHEEL = "recbole==1.2.1"
WHEEL_SHA256 = "9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407"
_CONNECT_SECONDS = 5
_PIP_SECONDS = 120


class Fetched(NamedTuple):
    """Folder, source and contents of the tables, and whether they were downloaded now."""

    root: Path
    source: str
    tables: MovieLensTables
    fresh: bool


def fetch_movielens_100k(
    root: str | Path, quiet: bool = False, force: bool = False, archive: str | Path | None = None
) -> Fetched:
    """Download MovieLens-100K into `root`, unless an intact copy is there.

    The source is GroupLens; if that is unreachable, the copy in RecBole's wheel on PyPI, which is downloaded by pip
    but neither installed nor run.

    Args:
        root: Folder to write to; created if missing.
        quiet: Print no progress.
        force: Download again even if an intact copy is there.
        archive: Local archive to use instead: ml-100k.zip or a RecBole wheel.

    Raises:
        DataError: If no source works; the message contains the reason for each.
    """
    folder = Path(root)
    if not force:
        try:
            return Fetched(folder, read_source(folder), read_tables(folder), fresh=False)
        except DataError as error:
            if folder.is_dir() and not quiet:
                print(f"fetching, because: {error}")
    if archive is not None:
        tables, source = parse_archive(Path(archive)), Path(archive).name
    else:
        tables, source = _download(quiet)
    write_tables(tables, folder, source)
    return Fetched(folder, source, tables, fresh=True)


def _download(quiet: bool) -> tuple[MovieLensTables, str]:
    """Return the tables from the first source that works, and its name."""
    sources: dict[str, Callable[[Path], Path]] = {
        GROUPLENS_URL: _from_grouplens,
        f"PyPI {WHEEL}": _from_wheel,
    }
    reasons = []
    with tempfile.TemporaryDirectory() as folder:
        for source, download in sources.items():
            if not quiet:
                print(f"fetching MovieLens-100K from {source}")
            try:
                return parse_archive(download(Path(folder))), source
            except (OSError, subprocess.SubprocessError, DataError) as error:
                reasons.append(f"{source}: {_last_line(error)}")
                if not quiet:
                    print(f"  failed: {_last_line(error)}")
    raise DataError(
        f"MovieLens-100K could not be downloaded ({'; '.join(reasons)}); download {GROUPLENS_URL} "
        "elsewhere and give it with: face data ml-100k --archive ml-100k.zip"
    )


def _from_grouplens(folder: Path) -> Path:
    """Download the archive of GroupLens and check it."""
    path = folder / "ml-100k.zip"
    with urllib.request.urlopen(GROUPLENS_URL, timeout=_CONNECT_SECONDS) as response:
        content = response.read()
    digest = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if digest != GROUPLENS_MD5:
        raise DataError(f"expected MD5 {GROUPLENS_MD5}, got {digest}; try again")
    path.write_bytes(content)
    return path


def _from_wheel(folder: Path) -> Path:
    """Download RecBole's wheel with pip, without installing it, and check it."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--only-binary", ":all:", "--dest", str(folder), WHEEL]
    subprocess.run(command, check=True, capture_output=True, text=True, timeout=_PIP_SECONDS)
    path = next(folder.glob("recbole-*.whl"))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != WHEEL_SHA256:
        raise DataError(f"expected SHA-256 {WHEEL_SHA256}, got {digest}; try again")
    return path


def _last_line(error: Exception) -> str:
    """Return the reason of a failure in one line: the last line of a failed command's output, or the message."""
    printed = error.stderr if isinstance(error, subprocess.CalledProcessError) else None
    lines = str(printed or error).strip().splitlines()
    return lines[-1] if lines else type(error).__name__
