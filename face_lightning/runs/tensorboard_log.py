"""TensorBoard logger of a run, which lists plain hyper-parameters with the final metrics."""

from argparse import Namespace
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import TensorBoardLogger

from face_lightning.hyperparameters import plain_values


class RunTensorBoardLogger(TensorBoardLogger):
    """Logs to the folder of a run.

    Hyper-parameters are reduced to plain values, as the repr of an object, such as the data of a stage, may be huge.
    They are listed once there are final metrics.

    Args:
        run_dir: Folder of the run.
    """

    def __init__(self, run_dir: Path) -> None:
        super().__init__(run_dir.parent, name=run_dir.name, version="", default_hp_metric=False)

    def log_hyperparams(
        self, params: dict[str, Any] | Namespace, metrics: dict[str, Any] | None = None, step: int | None = None
    ) -> None:
        """Log the plain values of hyper-parameters; with metrics they are listed in the HPARAMS tab."""
        plain = plain_values(vars(params) if isinstance(params, Namespace) else dict(params))
        super().log_hyperparams(plain, metrics, step)


def log_final(loggers: Iterable[object], metrics: Mapping[str, float]) -> None:
    """Log the hyper-parameters of a run with its final metrics.

    Args:
        loggers: Loggers of the trainer; other kinds than `RunTensorBoardLogger` are ignored.
        metrics: Test metrics by name.
    """
    for logger in loggers:
        if isinstance(logger, RunTensorBoardLogger):
            logger.log_hyperparams(dict(logger.hparams), dict(metrics))
            logger.experiment.flush()
