"""The files of a finished run, as a report reads them."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from face_lightning.bounded_yaml import load_yaml
from face_lightning.errors import CheckpointError, ConfigurationError, DataError
from face_lightning.plain_text import printable
from face_lightning.runs.folder import current_run
from face_lightning.runs.results import read_result


@dataclass(frozen=True, eq=False)
class RunRecord:
    """Contents of the files of a finished run.

    Attributes:
        folder: Folder of the run.
        name: Name of the run in the report.
        result: Content of result.json.
        config: Resolved configuration; empty for a baseline.
        environment: Content of environment.json; empty for a baseline.
        history: Lines of metrics.jsonl, one per epoch; empty for a baseline.
        user_ids: Original ids of the test users `(N,)`, sorted.
        user_metrics: Test metrics of these users `(N,)` by name.
    """

    folder: Path
    name: str
    result: dict[str, Any]
    config: dict[str, Any]
    environment: dict[str, Any]
    history: list[dict[str, Any]]
    user_ids: list[str]
    user_metrics: dict[str, np.ndarray]

    @property
    def metrics(self) -> dict[str, float]:
        """Metrics of the best epoch by name."""
        return {key: value for key, value in self.result["metrics"].items() if isinstance(value, float | int)}

    @property
    def test_metrics(self) -> list[str]:
        """Names of the ranking metrics on the test split: first recall, then NDCG, each by ascending k."""
        names = [key for key in self.metrics if key.startswith("test/") and "@" in key]
        return sorted(names, key=lambda key: (key.partition("@")[0] != "test/recall", int(key.rpartition("@")[2])))


def read_runs(folders: Sequence[Path]) -> list[RunRecord]:
    """Read finished runs, named by `distinct_names`.

    Raises:
        CheckpointError: If a folder contains no finished run.
        DataError: If a file is damaged.
    """
    return [_read_run(folder, name) for folder, name in zip(folders, distinct_names(folders), strict=True)]


def distinct_names(folders: Sequence[Path]) -> list[str]:
    """Shortest suffixes of the paths, with the same number of parts, that are distinct."""
    parts = [folder.absolute().parts[1:] for folder in folders]
    for length in range(1, max(map(len, parts), default=0) + 1):
        names = [printable("/".join(part[-length:])) for part in parts]
        if len(set(names)) == len(set(parts)):
            return names
    return [printable(str(folder)) for folder in folders]


def ancestors(run: RunRecord) -> list[Path]:
    """Folders of the runs that a run was started from, the first stage first, as far as they still exist.

    If the parent folder of all runs was moved, a run is found by its name next to the one that started from it.
    """
    found: list[Path] = []
    folder, config = run.folder, run.config
    while config.get("init_from"):
        source = Path(config["init_from"])
        source = source.parent.parent if source.suffix == ".ckpt" else source
        candidates = [folder.parent / source.name, source]
        folder = next((path for path in candidates if _config(path).get("run_dir") == str(source)), Path(os.devnull))
        if not (current_run(folder) / "result.json").is_file() or folder in found:
            break
        found.append(folder)
        config = _config(folder)
    return found[::-1]


def _read_run(folder: Path, name: str) -> RunRecord:
    path = current_run(folder)
    if not (path / "result.json").is_file():
        raise CheckpointError(
            f"run: expected the folder of a finished run, but {folder} has no result.json; finish that run, or train "
            "it again"
        )
    try:
        result = read_result(folder)
        environment = json.loads((path / "environment.json").read_text()) if result["stage"] != "baseline" else {}
        lines = (path / "metrics.jsonl").read_text().splitlines() if (path / "metrics.jsonl").is_file() else []
        history = [json.loads(line) for line in lines]
        ids, users = _read_users(path / "test_users.parquet")
        assert isinstance(result["metrics"], dict)
    except (OSError, ValueError, KeyError, AssertionError, pa.ArrowException) as error:
        raise DataError(f"run: a file of {folder} is damaged ({error}); train that run again") from error
    return RunRecord(folder, name, result, _config(folder), environment, history, ids, users)


def _read_users(path: Path) -> tuple[list[str], dict[str, np.ndarray]]:
    """Ids and metrics of the test users, sorted by id; empty for a run without a test split."""
    if not path.is_file():
        return [], {}
    table = pq.read_table(path).sort_by("user_id")
    users = {key: table[key].to_numpy().astype(np.float64) for key in table.column_names if key != "user_id"}
    return table["user_id"].to_pylist(), users


@lru_cache(maxsize=64)
def _parse(text: str) -> Any:  # noqa: ANN401
    """Parse YAML; the result is cached and must not be modified."""
    return load_yaml(text)


def _config(folder: Path) -> dict[str, Any]:
    path = current_run(folder) / "config.yaml"
    try:
        config = _parse(path.read_text())
    except (OSError, yaml.YAMLError, ConfigurationError):
        return {}
    return config if isinstance(config, dict) else {}
