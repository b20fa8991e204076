"""The training objective of a run, read from its configuration, and the fold-in that matches it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from face_lightning.errors import CheckpointError
from face_lightning.fold_in import FoldIn, LeastSquaresFoldIn
from face_lightning.runs.checkpoint_reading import load_checkpoint
from face_lightning.runs.folder import current_run
from face_lightning.structures import Embeddings

_LEAST_SQUARES = ".LeastSquaresStage"
_WEIGHTED_SQUARES = "WeightedSquares"
_TABLES = ".GMF"  # the backbone whose final embeddings are its trained tables
_FUSION = ".FusionStage"
_RESTART = 0.7  # factor on the best epoch's regularisation, as the optimum is lower with more data


def ranking_objective(config: Mapping[str, Any], checkpoint: Path) -> dict[str, Any]:
    """Ranking loss and L2 weight of a run, as options for another stage.

    For a run of least squares, this is the same objective as a loss, with the settings of the checkpoint's epoch.

    Args:
        config: Configuration of the run.
        checkpoint: Checkpoint of the run; read if it exists and the settings changed from epoch to epoch.

    Raises:
        CheckpointError: If the checkpoint is read and lacks these settings.
    """
    stage = config.get("model") or {}
    arguments = stage.get("init_args") or {}
    if not str(stage.get("class_path")).endswith(_LEAST_SQUARES):
        return {key: arguments[key] for key in ("ranking_loss", "l2_weight") if key in arguments}
    shared = ("unobserved_weight", "regularization", "frequency_power", "popularity_discount")
    settings = {key: arguments[key] for key in shared if key in arguments}
    if arguments.get("regularization_growth", 1.0) != 1 and checkpoint.is_file():
        settings |= _path_settings(checkpoint)
    return {"ranking_loss": {"class_path": _WEIGHTED_SQUARES, "init_args": settings}, "l2_weight": 0.0}


def continued_settings(config: Mapping[str, Any], checkpoint: Path, follows_path: bool) -> dict[str, Any]:
    """Settings to continue a run of least squares with, as options of the stage; empty for a run of another stage.

    Args:
        config: Configuration of the run.
        checkpoint: Checkpoint of the run.
        follows_path: Whether the regularisation will grow again, so that it must start lower.

    Raises:
        CheckpointError: See `ranking_objective`.
    """
    if not str((config.get("model") or {}).get("class_path")).endswith(_LEAST_SQUARES):
        return {}
    settings: dict[str, Any] = dict(ranking_objective(config, checkpoint)["ranking_loss"]["init_args"])
    if follows_path and "regularization" in settings:
        settings["regularization"] *= _RESTART
    return settings


def _path_settings(checkpoint: Path) -> dict[str, float]:
    """Settings of least squares in the epoch of a checkpoint."""
    content = load_checkpoint(checkpoint, "init_from")
    if "least_squares" not in content:
        raise CheckpointError(
            f"init_from: expected a checkpoint that names its settings of least squares, but {checkpoint} does not; "
            "train it again with this version"
        )
    settings: dict[str, float] = content["least_squares"]["settings"]
    return settings


def kept_fold_in(
    run_dir: Path | None, embeddings: Embeddings, starts: np.ndarray, item_rows: np.ndarray
) -> FoldIn | LeastSquaresFoldIn:
    """Fold-in of new users: least squares if the run minimises weighted squares over tables, else a linear map.

    Args:
        run_dir: Folder of the run; None if the objective is not known.
        embeddings: Final embeddings.
        starts: Offset of each user's training items, `(U + 1,)`.
        item_rows: Concatenated training items of all users, `(N,)`.
    """
    from face_lightning.losses.weighted_squares import default_unobserved_weight, targets_of_items  # slow to import

    settings = None if run_dir is None else _weighted_squares(current_run(run_dir))
    if settings is None:
        return FoldIn(embeddings.items, embeddings.users, starts, item_rows)
    weight = settings.get("unobserved_weight")
    if weight is None:
        weight = default_unobserved_weight(len(item_rows), *map(len, embeddings))
    power = settings.get("frequency_power", 0.5)
    frequencies = torch.from_numpy(np.bincount(item_rows, minlength=len(embeddings.items)))
    targets = targets_of_items(frequencies, settings.get("popularity_discount", 0.0))
    return LeastSquaresFoldIn(embeddings.items, starts, weight, settings["regularization"], power, targets)


def _weighted_squares(run_dir: Path) -> dict[str, Any] | None:
    """Settings of the weighted squares that the tables of a run minimise; None if it has another objective."""
    path = run_dir / "config.yaml"
    config = yaml.safe_load(path.read_text()) if path.is_file() else {}
    stage = config.get("model") or {}
    backbone = (stage.get("init_args") or {}).get("backbone") or {}
    loss = ranking_objective(config, run_dir / "checkpoints" / "best.ckpt").get("ranking_loss") or {}
    settings: dict[str, Any] = dict(loss.get("init_args") or {})
    has_tables = str(backbone.get("class_path")).endswith(_TABLES)
    is_squares = str(loss.get("class_path")).rpartition(".")[2] == _WEIGHTED_SQUARES
    is_fused = str(stage.get("class_path")).endswith(_FUSION)  # then the tables also hold scores of another model
    return settings if has_tables and is_squares and not is_fused and settings.get("regularization") else None
