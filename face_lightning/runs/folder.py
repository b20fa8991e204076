"""The folder of a run: locked by one run at a time, and an earlier run is kept until its successor has saved."""

import contextlib
import errno
import fcntl
import json
import os
import shutil
from pathlib import Path
from typing import Any

from face_lightning.errors import ConfigurationError

_CHECKPOINTS = ("checkpoints/best.ckpt", "checkpoints/last.ckpt", "checkpoints/previous.ckpt")
_REPLACED = ".replaced"
_UNFINISHED = (".*.tmp", "checkpoints/.*.tmp")  # see `files.atomic_path`
_RUN_FILES = (
    *_UNFINISHED,
    *_CHECKPOINTS,
    "events.out.tfevents.*",
    "projector_*",
    *("config.yaml", "hparams.yaml", "environment.json", "metrics.jsonl", "result.json"),
    *("test_users.parquet", "descriptors.parquet", "predictions.parquet", "predictions-[0-9]*.parquet"),
    *("codebook.safetensors", "meanings.safetensors", "user_texts.safetensors", "new_items.parquet"),
    *("entities.parquet", "interactions.safetensors", "embeddings.safetensors"),
)


class RunFolder:
    """Lock of a run folder, and backup of an earlier run in it; used by the process that writes.

    Args:
        path: Folder of the run.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._old = path / _REPLACED
        self._lock: int | None = None
        self._is_new = not path.exists()

    def lock(self) -> None:
        """Create the folder, lock it until this process ends, and clean up after a crash.

        Raises:
            ConfigurationError: If another process holds the lock, or a file of the run is a symbolic link.
        """
        for file in (self.path / "checkpoints", self._old, *_run_files(self.path)):
            if file.is_symlink():
                raise ConfigurationError(
                    f"run_dir: expected a folder of its own, but {file} is a link, and files behind it could be "
                    "overwritten or deleted; remove it, or make the run folder itself a link"
                )
        self.path.mkdir(parents=True, exist_ok=True)
        self._lock = os.open(self.path, os.O_RDONLY)  # the folder itself, so that no lock file is left behind
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self.unlock()
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                return  # a file system without locks
            raise ConfigurationError(
                f"run_dir: expected an unused folder, but another process is training in {self.path}; wait for it, "
                "or give another --run_dir"
            ) from error
        for pattern in _UNFINISHED:
            for file in self.path.glob(pattern):
                file.unlink()
        if self._old.is_dir():
            self.discard() if holds_run(self.path) else self.restore()

    def unlock(self) -> None:
        """Release the lock."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def set_aside(self) -> None:
        """Move an earlier run aside; `restore` moves it back."""
        for file in _run_files(self.path):
            target = self._old / file.relative_to(self.path)
            target.parent.mkdir(parents=True, exist_ok=True)
            file.replace(target)

    def discard(self) -> None:
        """Delete the run that was set aside."""
        shutil.rmtree(self._old, ignore_errors=True)

    def restore(self) -> None:
        """Delete the files of a failed run, and move the earlier run back."""
        clear_run(self.path)
        for file in list(self._old.rglob("*")):
            if file.is_file():
                target = self.path / file.relative_to(self._old)
                target.parent.mkdir(parents=True, exist_ok=True)
                file.replace(target)
        self.discard()
        if self._is_new:
            with contextlib.suppress(OSError):  # missing, or it contains files of the user
                self.path.rmdir()


def holds_run(path: Path) -> bool:
    """Whether the folder holds a checkpoint to resume from."""
    return any((path / name).is_file() for name in _CHECKPOINTS)


def current_run(run_dir: Path) -> Path:
    """Folder with the files of a run: `run_dir`, or its backup there until the run's successor has saved."""
    old = run_dir / _REPLACED
    return old if old.is_dir() and not holds_run(run_dir) else run_dir


def finished(run_dir: Path, fingerprint: str) -> bool:
    """Whether a run folder contains the result of a run with this fingerprint."""
    return _fingerprint(run_dir / "result.json") == fingerprint


def unfinished(run_dir: Path, fingerprint: str) -> bool:
    """Whether a run with this fingerprint has saved a checkpoint in the folder, and has no result yet."""
    is_resumable = (run_dir / "checkpoints" / "last.ckpt").is_file() and not (run_dir / "result.json").exists()
    return is_resumable and _fingerprint(run_dir / "environment.json") == fingerprint


def trained_on(run_dir: Path) -> dict[str, Any]:
    """Recorded identity of a run's data: `fingerprint`, and `texts` if the run has words; empty if not recorded."""
    try:
        data = json.loads((current_run(run_dir) / "environment.json").read_text())["data"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return data if isinstance(data, dict) else {}


def _fingerprint(path: Path) -> str | None:
    """Fingerprint in a JSON file of a run; None if there is none."""
    try:
        fingerprint = json.loads(path.read_text())["fingerprint"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return fingerprint if isinstance(fingerprint, str) else None


def clear_run(run_dir: Path) -> None:
    """Delete the files of a run, but no other files."""
    for path in _run_files(run_dir):
        path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # missing, or it contains files of the user
        (run_dir / "checkpoints").rmdir()


def _run_files(run_dir: Path) -> list[Path]:
    return [path for pattern in _RUN_FILES for path in run_dir.glob(pattern)]
