"""A callback that hits its own process at a chosen moment, as a scheduler or a crash would."""

import os
import signal
from typing import Any, Literal

import lightning as L
import torch

Moment = Literal["first step", "mid-epoch", "checkpoint", "validation"]


class KillerAt(L.Callback):
    """Sends a signal to the process of one rank.

    Args:
        moment: When.
        name: Of the signal.
        rank: Of the process.
    """

    def __init__(self, moment: Moment, name: Literal["SIGKILL", "SIGTERM"], rank: int = 0) -> None:
        self.moment = moment
        self.signal = signal.Signals[name]
        self.rank = rank

    def on_train_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        if self.moment != "checkpoint" or trainer.global_rank:
            return
        save = torch.save

        def hit(content: Any, file: Any) -> None:
            if trainer.current_epoch == 1:
                file.write(b"the first half")
                file.flush()
                self._hit(trainer)  # who outlives it writes on: the state is the one that counts
                file.seek(0)
                file.truncate()
            save(content, file)

        torch.save = hit

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        at = {"first step": (0, 0), "mid-epoch": (1, 1)}.get(self.moment)
        if at == (trainer.current_epoch, batch_idx):
            self._hit(trainer)

    def on_validation_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        if self.moment == "validation" and trainer.current_epoch == 1:
            self._hit(trainer)

    def _hit(self, trainer: L.Trainer) -> None:
        if trainer.global_rank == self.rank:
            os.kill(os.getpid(), self.signal)
