"""What finished runs have left in their folders."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from face_lightning.runs.folder import current_run


def read_result(run_dir: Path) -> dict[str, Any]:
    """What a finished run found."""
    result: dict[str, Any] = json.loads((current_run(run_dir) / "result.json").read_text())
    return result


def test_users(run_dir: Path, metric: str) -> np.ndarray:
    """A metric of every test user, in the order of user ids."""
    table = pq.read_table(current_run(run_dir) / "test_users.parquet").sort_by("user_id")
    values: np.ndarray = table[metric].to_numpy()
    return values
