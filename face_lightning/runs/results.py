"""Reading of the results of finished runs."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from face_lightning.runs.folder import current_run


def read_result(run_dir: Path) -> dict[str, Any]:
    """Read result.json of a finished run."""
    result: dict[str, Any] = json.loads((current_run(run_dir) / "result.json").read_text())
    return result


def test_users(run_dir: Path, metric: str) -> np.ndarray:
    """Read a metric of every test user, sorted by user id."""
    table = pq.read_table(current_run(run_dir) / "test_users.parquet").sort_by("user_id")
    values: np.ndarray = table[metric].to_numpy()
    return values
