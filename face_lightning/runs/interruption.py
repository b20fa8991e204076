"""Checkpoint to resume an interrupted run from, saved after every epoch, every few minutes and on SIGTERM."""

import contextlib
import signal
import sys
import time
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Checkpoint

from face_lightning.distributed import largest
from face_lightning.progress import batches_left, is_whole_epoch
from face_lightning.runs.checkpoints import LAST
from face_lightning.runs.folder import RunFolder

_SAVE, _STOP = 1, 2  # processes agree on the largest


class LastCheckpoint(Checkpoint):
    """Keeps last.ckpt up to date; on SIGTERM it saves and exits with code 143.

    Lightning's own handler communicates with the other processes in the middle of a step, and exits with code 0.
    Here a signal only sets a flag, which the processes exchange after each step. A signal during a validation is
    handled after it.

    Args:
        folder: Folder of the run.
        every_n_minutes: Interval of saves in the middle of an epoch; None to only save at its end.
    """

    def __init__(self, folder: RunFolder, every_n_minutes: float | None = None) -> None:
        self._folder = folder
        self._seconds = float("inf") if every_n_minutes is None else 60 * every_n_minutes
        self._saved = 0.0
        self._signalled = False
        self._previous_handler: Any = None

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Install the handler of SIGTERM, and start the clock."""
        del trainer, pl_module
        self._saved = time.monotonic()
        with contextlib.suppress(ValueError):  # only the main thread may install handlers
            self._previous_handler = signal.signal(signal.SIGTERM, self._on_signal)

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,  # noqa: ANN401
        batch: Any,  # noqa: ANN401
        batch_idx: int,
    ) -> None:
        """Save in the middle of an epoch if it is due or training stops; `on_train_epoch_end` saves at its end."""
        del outputs, batch
        if not batches_left(trainer, batch_idx):
            return
        due = trainer.is_global_zero and time.monotonic() - self._saved >= self._seconds
        urgency = largest(_STOP if self._signalled else _SAVE if due else 0, pl_module.device)
        if urgency or trainer.should_stop or trainer.global_step == trainer.max_steps:
            self._save(trainer)
        if urgency == _STOP:
            self._exit(trainer)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Save after the other callbacks have updated their state; an incomplete epoch has already been saved."""
        if is_whole_epoch(trainer):
            self._save(trainer)
        if largest(_STOP if self._signalled else 0, pl_module.device) == _STOP:
            self._exit(trainer)

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Restore the previous handler, unless Lightning has, and drop it, as it may keep the Trainer alive."""
        del trainer, pl_module, stage
        if self._previous_handler is not None and signal.getsignal(signal.SIGTERM) == self._on_signal:
            signal.signal(signal.SIGTERM, self._previous_handler)
        self._previous_handler = None

    def _on_signal(self, *_: object) -> None:
        self._signalled = True

    def _save(self, trainer: L.Trainer) -> None:
        trainer.save_checkpoint(self._folder.path / "checkpoints" / LAST)
        self._saved = time.monotonic()
        if trainer.is_global_zero:
            self._folder.discard()

    def _exit(self, trainer: L.Trainer) -> None:
        if trainer.is_global_zero:
            step = trainer.global_step
            print(f"{self._folder.path}: SIGTERM after step {step}; resume with --ckpt_path last", file=sys.stderr)
        raise SystemExit(128 + signal.SIGTERM)
