"""Checkpoints of a run: written atomically, and independent of the location of the run folder."""

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
    """Writes a temporary file in the same folder and renames it; Lightning's own copies from the system's folder."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:  # noqa: ANN401
        """Write a checkpoint; an existing last.ckpt is kept as previous.ckpt.

        Args:
            checkpoint: Content of the checkpoint.
            path: Path of a local file.
            storage_options: Must be None.

        Raises:
            CheckpointError: If the file cannot be written; an existing file does not change.
        """
        assert storage_options is None, "local files have no storage options"
        path = Path(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_path(path) as temporary:
                with temporary.open("wb") as file:
                    torch.save(checkpoint, file)
                    file.flush()
                    os.fsync(file.fileno())  # so that a crash cannot replace a valid checkpoint by a partial one
                if path.name == LAST and path.is_file():
                    _link_or_move(path, path.with_name(PREVIOUS))
        except (OSError, RuntimeError) as error:  # torch reports a full disk as a RuntimeError
            raise CheckpointError(
                f"checkpoint: {path} cannot be written ({_reason(error)}); earlier checkpoints are intact: make room, "
                "then resume with --ckpt_path last"
            ) from error

    def load_checkpoint(self, path: str | Path, *args: Any, **kwargs: Any) -> dict[str, Any]:  # noqa: ANN401
        """Read a checkpoint after verifying its checksums; see `TorchCheckpointIO.load_checkpoint`.

        Raises:
            CheckpointError: If the file is damaged.
        """
        try:
            check_checksums(Path(path))
        except Exception as error:  # zipfile raises many kinds of errors for damaged headers
            raise CheckpointError(
                f"checkpoint: {path} is damaged ({error}); check the disk, then resume with --ckpt_path last"
            ) from error
        content: dict[str, Any] = super().load_checkpoint(path, *args, **kwargs)
        return content


def _link_or_move(path: Path, target: Path) -> None:
    """Make the file at `path` available at `target`, too; at every moment at least one of both exists."""
    try:
        with atomic_path(target) as temporary:
            os.link(path, temporary)
    except OSError:  # a file system without hard links
        path.replace(target)


def _reason(error: BaseException) -> str:
    """Message of the operating system, which torch's own error hides."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        cause = cause.__cause__ or cause.__context__
    return str(error).splitlines()[0]


class RunCheckpoint(ModelCheckpoint):
    """ModelCheckpoint of the best epoch whose state has paths relative to its folder, so that a run can be moved."""

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Compare the epoch with the best one, unless it is incomplete: the resumed run does so at its end.

        If a validation metric is monitored, epochs without validation are skipped.
        """
        is_measured = not str(self.monitor).startswith("val/") or validates(trainer)
        if is_measured and (is_whole_epoch(trainer) or not self.best_model_path):
            super().on_train_epoch_end(trainer, pl_module)

    def state_dict(self) -> dict[str, Any]:
        """State of the callback, with paths relative to its folder."""
        state = super().state_dict()
        assert self.dirpath is not None
        relative = {path: os.path.relpath(path, self.dirpath) if path else "" for path in self._files(state)}
        return _rename(state, relative) | {"dirpath": "."}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state if all its files exist in the folder.

        Raises:
            CheckpointError: If the state names other files than best.ckpt, which the callback could delete.
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
    """EarlyStopping that skips an incomplete epoch, which the resumed run evaluates at its end."""

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
        """Restore the wait count, but not the patience, which the user may have changed."""
        super().load_state_dict(state_dict | {"patience": self.patience})

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Check for improvement unless the epoch is incomplete."""
        if is_whole_epoch(trainer):
            super().on_train_epoch_end(trainer, pl_module)


def _rename(state: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    """Replace the paths in the state of a ModelCheckpoint."""
    models = {names[path]: score for path, score in state["best_k_models"].items()}
    return state | {key: names[state[key]] for key in PATHS} | {"best_k_models": models}
