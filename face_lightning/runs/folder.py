"""The folder of a run: one run at a time; an old run is kept until a new one has saved something."""

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
    """Lock of a run folder, and what happens to an earlier run in it; for the process that writes.

    Args:
        path: Folder of the run.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._old = path / _REPLACED
        self._lock: int | None = None
        self._made = not path.exists()

    def lock(self) -> None:
        """Make the folder, lock it until this process ends, and repair what a crash left.

        Raises:
            ConfigurationError: If another process is in it, or what a run keeps in it lies elsewhere, behind a link.
        """
        for file in (self.path / "checkpoints", self._old, *_run_files(self.path)):
            if file.is_symlink():
                raise ConfigurationError(
                    f"run_dir: expected a folder of its own, but {file} is a link, and files behind it could be "
                    "overwritten or deleted; remove it, or make the run folder itself a link"
                )
        self.path.mkdir(parents=True, exist_ok=True)
        self._lock = os.open(self.path, os.O_RDONLY)  # the folder itself: no file that could be left behind
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
        """Delete what a failed run left, and move the earlier one back."""
        clear_run(self.path)
        for file in list(self._old.rglob("*")):
            if file.is_file():
                target = self.path / file.relative_to(self._old)
                target.parent.mkdir(parents=True, exist_ok=True)
                file.replace(target)
        self.discard()
        if self._made:
            with contextlib.suppress(OSError):  # not there, or the user has put something in
                self.path.rmdir()


def holds_run(path: Path) -> bool:
    """Whether the folder holds a checkpoint to resume from."""
    return any((path / name).is_file() for name in _CHECKPOINTS)


def current_run(run_dir: Path) -> Path:
    """Where the files of a run are: in its folder, or set aside there until its successor has saved something."""
    old = run_dir / _REPLACED
    return old if old.is_dir() and not holds_run(run_dir) else run_dir


def finished(run_dir: Path, fingerprint: str) -> bool:
    """Whether a run folder holds the result of a run with this fingerprint."""
    return _fingerprint(run_dir / "result.json") == fingerprint


def unfinished(run_dir: Path, fingerprint: str) -> bool:
    """Whether a run with this fingerprint was started in the folder, saved a checkpoint, and has no result yet."""
    begun = (run_dir / "checkpoints" / "last.ckpt").is_file() and not (run_dir / "result.json").exists()
    return begun and _fingerprint(run_dir / "environment.json") == fingerprint


def trained_on(run_dir: Path) -> dict[str, Any]:
    """Identity of the data that a run records: `fingerprint`, and that of `texts` where it has words."""
    try:
        data = json.loads((current_run(run_dir) / "environment.json").read_text())["data"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return data if isinstance(data, dict) else {}


def _fingerprint(path: Path) -> str | None:
    """Fingerprint that a file of a run records; None where it has none."""
    try:
        fingerprint = json.loads(path.read_text())["fingerprint"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return fingerprint if isinstance(fingerprint, str) else None


def clear_run(run_dir: Path) -> None:
    """Delete the files of an earlier run, and nothing else."""
    for path in _run_files(run_dir):
        path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # not there, or holds files of the user's
        (run_dir / "checkpoints").rmdir()


def _run_files(run_dir: Path) -> list[Path]:
    return [path for pattern in _RUN_FILES for path in run_dir.glob(pattern)]
