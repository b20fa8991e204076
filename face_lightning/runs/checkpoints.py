"""Checkpoints of a run: written atomically, and valid wherever the run folder is moved to."""

import os
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint

from face_lightning.errors import CheckpointError, ConfigurationError
from face_lightning.files import atomic_path
from face_lightning.progress import is_whole_epoch, validates
from face_lightning.runs.checkpoint_checks import PATHS, check_checkpoint_state, check_checksums

LAST, PREVIOUS = "last.ckpt", "previous.ckpt"


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside the file and renames; Lightning's own copies from the folder for temporary files."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:  # noqa: ANN401
        """Write a checkpoint; the last.ckpt before it stays as previous.ckpt.

        Args:
            checkpoint: Content.
            path: File on this machine.
            storage_options: Must be None.

        Raises:
            CheckpointError: If it cannot be written; the previous file stays.
        """
        assert storage_options is None, "local files have no storage options"
        path = Path(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_path(path) as temporary:
                with temporary.open("wb") as file:
                    torch.save(checkpoint, file)
                    file.flush()
                    os.fsync(file.fileno())  # on the disk before it replaces a checkpoint that is
                if path.name == LAST and path.is_file():
                    _keep(path, path.with_name(PREVIOUS))
        except (OSError, RuntimeError) as error:  # torch reports a full disk as a RuntimeError
            raise CheckpointError(
                f"checkpoint: {path} cannot be written ({_reason(error)}); the checkpoints written before are whole: "
                "make room, then resume with --ckpt_path last"
            ) from error

    def load_checkpoint(self, path: str | Path, *args: Any, **kwargs: Any) -> dict[str, Any]:  # noqa: ANN401
        """Read a checkpoint after verifying its checksums; see `TorchCheckpointIO.load_checkpoint`.

        Raises:
            CheckpointError: If it is damaged.
        """
        try:
            check_checksums(Path(path))
        except Exception as error:  # the reader of archives reports damaged headers in many ways
            raise CheckpointError(
                f"checkpoint: {path} is damaged ({error}); check the disk, then resume with --ckpt_path last"
            ) from error
        content: dict[str, Any] = super().load_checkpoint(path, *args, **kwargs)
        return content


def _keep(path: Path, name: Path) -> None:
    """Make the file at `path` available under `name` as well; at no time is there neither."""
    try:
        with atomic_path(name) as temporary:
            os.link(path, temporary)
    except OSError:  # a file system without links
        path.replace(name)


def _reason(error: BaseException) -> str:
    """The operating system's message, which torch's own error hides."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.strerror:
            return seen.strerror
        seen = seen.__cause__ or seen.__context__
    return str(error).splitlines()[0]


class RunCheckpoint(ModelCheckpoint):
    """ModelCheckpoint of the best epoch, whose state names files relative to its folder: a run can be moved."""

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Judge the epoch unless it was interrupted: the resumed run judges it as a whole.

        An epoch without validation is not judged where the monitored metric comes from validation.
        """
        is_measured = not str(self.monitor).startswith("val/") or validates(trainer)
        if is_measured and (is_whole_epoch(trainer) or not self.best_model_path):
            super().on_train_epoch_end(trainer, pl_module)

    def state_dict(self) -> dict[str, Any]:
        """Scores, and files relative to the folder."""
        state = super().state_dict()
        assert self.dirpath is not None
        relative = {path: os.path.relpath(path, self.dirpath) if path else "" for path in self._files(state)}
        return _rename(state, relative) | {"dirpath": "."}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the scores of files that are in the folder.

        Raises:
            CheckpointError: If the state names other files than best.ckpt: the callback deletes what it replaces.
        """
        assert self.dirpath is not None
        check_checkpoint_state(state_dict)
        folder = Path(self.dirpath)
        files = {path: str(folder / path) if path else "" for path in self._files(state_dict)}
        if all(Path(path).is_file() for path in files.values() if path):
            super().load_state_dict(_rename(state_dict, files) | {"dirpath": self.dirpath})

    @staticmethod
    def _files(state: dict[str, Any]) -> list[str]:
        return [*(state[key] for key in PATHS), *state["best_k_models"]]


class RunEarlyStopping(EarlyStopping):
    """EarlyStopping that does not judge an interrupted epoch: the resumed run does."""

    def __init__(self, monitor: str, patience: int = 3, **kwargs: Any) -> None:  # noqa: ANN401
        """See `EarlyStopping`.

        Raises:
            ConfigurationError: If `patience` is negative.
        """
        if patience < 0:
            raise ConfigurationError(
                f"early_stopping.patience: expected at least 0, got {patience}; a large number never stops early"
            )
        super().__init__(monitor, patience=patience, **kwargs)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the count of the interrupted run, but not its patience, which may have been changed."""
        super().load_state_dict(state_dict | {"patience": self.patience})

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Judge the epoch unless it was interrupted."""
        if is_whole_epoch(trainer):
            super().on_train_epoch_end(trainer, pl_module)


def _rename(state: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    """`state` of a ModelCheckpoint with its files renamed."""
    models = {names[path]: score for path, score in state["best_k_models"].items()}
    return state | {key: names[state[key]] for key in PATHS} | {"best_k_models": models}
