"""Records of a run: metrics of epochs, environment, and test metrics of users."""

import json
import platform
import resource
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import lightning as L
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from face_lightning.distributed import gather_rows
from face_lightning.files import atomic_path, strict_json, write_atomically
from face_lightning.progress import validates
from face_lightning.runs.tensorboard_log import log_final
from face_lightning.stages.base import Stage

_VALIDATION_PREFIXES = ("val/", "codebook/")
_PACKAGES = (
    "face-lightning",
    "torch",
    "lightning",
    "torch-geometric",
    "transformers",
    "sentence-transformers",
    "numpy",
)


class RunRecorder(L.Callback):
    """Writes metrics.jsonl, one line per epoch, and measures the seconds of training.

    Args:
        run_dir: Folder of the run.
    """

    def __init__(self, run_dir: Path) -> None:
        self.run_dir = run_dir
        self.seconds = 0.0
        self._started = time.perf_counter()

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clock, and drop rows that are newer than the checkpoint that the run is resumed from."""
        del pl_module
        self._started = time.perf_counter()
        path = self.run_dir / "metrics.jsonl"
        if trainer.is_global_zero and path.is_file():
            rows = path.read_text().splitlines(keepends=True)
            epoch = trainer.current_epoch  # the row of an interrupted epoch will be replaced at its end
            kept = [row for row in rows if row.endswith("\n") and json.loads(row)["epoch"] < epoch]
            write_atomically(path, "".join(kept))

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Append the epoch's metrics to metrics.jsonl."""
        del pl_module
        if not trainer.is_global_zero:
            return
        row: dict[str, float] = {"epoch": trainer.current_epoch, "step": trainer.global_step}
        row["seconds"] = round(self.seconds + time.perf_counter() - self._started, 3)
        stale = () if validates(trainer) else _VALIDATION_PREFIXES  # Lightning keeps the values of earlier epochs
        row |= {key: float(value) for key, value in trainer.callback_metrics.items() if not key.startswith(stale)}
        with (self.run_dir / "metrics.jsonl").open("a") as file:
            file.write(strict_json(row) + "\n")

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Stop the clock."""
        del trainer, pl_module
        self.seconds += time.perf_counter() - self._started

    def on_test_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Log the run's hyper-parameters with its test metrics to TensorBoard."""
        del pl_module
        tested = {key: float(value) for key, value in trainer.callback_metrics.items() if key.startswith("test/")}
        log_final(trainer.loggers, tested)

    def state_dict(self) -> dict[str, Any]:
        """Seconds trained so far, so that a resumed run continues the count."""
        return {"seconds": self.seconds + time.perf_counter() - self._started}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the seconds of the interrupted run."""
        self.seconds = float(state_dict["seconds"])


def environment() -> dict[str, Any]:
    """Versions of packages, architecture and devices, without names of machines, users or folders."""
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    gpu = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return {"versions": versions, "machine": platform.machine(), "threads": torch.get_num_threads(), "gpus": gpu}


def peak_mib() -> int:
    """Peak resident memory of this process in MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak / (2**20 if sys.platform == "darwin" else 2**10))


def gather_test_users(stage: Stage) -> dict[str, Any]:
    """Every test user's metrics by name, and `user`, its row; NumPy arrays of all processes; a collective operation.

    Args:
        stage: Stage that has been tested.
    """
    device = stage.device  # collective operations need the tensors there
    columns = {key: gather_rows(torch.cat(parts).to(device)).cpu() for key, parts in stage.test_users.items()}
    if not columns:
        return {}
    order = columns["user"].argsort()
    return {key: column[order].numpy() for key, column in columns.items()}


def write_test_users(columns: dict[str, Any], user_ids: Any, path: Path) -> None:  # noqa: ANN401 NumPy array of strings
    """Write the metrics of every test user as Parquet, for paired comparisons between runs.

    Args:
        columns: Result of `gather_test_users`.
        user_ids: Original ids of all users.
        path: File to write.
    """
    columns = dict(columns)
    rows = columns.pop("user")
    table = pa.table({"user_id": pa.array(user_ids[rows].tolist(), pa.string()), **columns})
    with atomic_path(path) as temporary:
        pq.write_table(table, temporary)
