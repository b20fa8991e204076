"""TensorBoard's events of a run, with plain hyper-parameters beside final metrics."""

from argparse import Namespace
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import TensorBoardLogger

from face_lightning.hyperparameters import plain_values


class RunTensorBoardLogger(TensorBoardLogger):
    """Logs into the folder of a run.

    Hyper-parameters are reduced to plain values: objects, such as the data that a stage reads words from, would be
    written out whole. They appear with the final metrics, and not before there are some.

    Args:
        run_dir: Folder of the run.
    """

    def __init__(self, run_dir: Path) -> None:
        super().__init__(run_dir.parent, name=run_dir.name, version="", default_hp_metric=False)

    def log_hyperparams(
        self, params: dict[str, Any] | Namespace, metrics: dict[str, Any] | None = None, step: int | None = None
    ) -> None:
        """Log plain values of hyper-parameters; with metrics they are listed in the HPARAMS tab."""
        plain = plain_values(vars(params) if isinstance(params, Namespace) else dict(params))
        super().log_hyperparams(plain, metrics, step)


def log_final(loggers: Iterable[object], metrics: Mapping[str, float]) -> None:
    """List the hyper-parameters of a run with its final metrics.

    Args:
        loggers: Loggers of the trainer; those of other kinds are left alone.
        metrics: Test metrics by name.
    """
    for logger in loggers:
        if isinstance(logger, RunTensorBoardLogger):
            logger.log_hyperparams(dict(logger.hparams), dict(metrics))
            logger.experiment.flush()
