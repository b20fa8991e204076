"""The objective that a run was trained with, as its configuration has it, and the fold-in that suits it."""

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
_TABLES = ".GMF"  # the backbone whose final embeddings are the tables that training solves for
_FUSION = ".FusionStage"
_RESTART = 0.7  # of the regularisation that the best epoch of a path had: it is lower where there are more data


def ranking_objective(config: Mapping[str, Any], checkpoint: Path) -> dict[str, Any]:
    """Ranking loss and L2 weight of a run, as options of another stage.

    After least squares it is the same objective as a loss, with the settings of the checkpoint's epoch.

    Args:
        config: Configuration of the run.
        checkpoint: A checkpoint of it, which is read where settings changed from epoch to epoch and the file is there.

    Raises:
        CheckpointError: If it is read and does not name these settings.
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
    """Settings with which least squares goes on from a run of least squares, as options; none from another stage.

    Args:
        config: Configuration of the run.
        checkpoint: A checkpoint of it.
        follows_path: Whether the regularisation is to grow again, which then starts lower.

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
    """Settings of least squares that the tables of a checkpoint were solved with."""
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
    """Fold-in of new users: in closed form where training minimised weighted squares over tables, else a linear map.

    Args:
        run_dir: Folder of the run; None for none, whose objective is not known.
        embeddings: Final embeddings.
        starts: Where each user's training items begin, `(U + 1,)`.
        item_rows: These items, `(N,)`.
    """
    from face_lightning.losses.weighted_squares import default_unobserved_weight, targets_of_items  # others need none

    squares = None if run_dir is None else _weighted_squares(current_run(run_dir))
    if squares is None:
        return FoldIn(embeddings.items, embeddings.users, starts, item_rows)
    weight = squares.get("unobserved_weight")
    if weight is None:
        weight = default_unobserved_weight(len(item_rows), *map(len, embeddings))
    power = squares.get("frequency_power", 0.5)
    frequencies = torch.from_numpy(np.bincount(item_rows, minlength=len(embeddings.items)))
    targets = targets_of_items(frequencies, squares.get("popularity_discount", 0.0))
    return LeastSquaresFoldIn(embeddings.items, starts, weight, squares["regularization"], power, targets)


def _weighted_squares(run_dir: Path) -> dict[str, Any] | None:
    """Settings of the weighted squares that the tables of a run minimise; None where it has another objective."""
    path = run_dir / "config.yaml"
    config = yaml.safe_load(path.read_text()) if path.is_file() else {}
    stage = config.get("model") or {}
    backbone = (stage.get("init_args") or {}).get("backbone") or {}
    loss = ranking_objective(config, run_dir / "checkpoints" / "best.ckpt").get("ranking_loss") or {}
    settings: dict[str, Any] = dict(loss.get("init_args") or {})
    of_tables = str(backbone.get("class_path")).endswith(_TABLES)
    is_squares = str(loss.get("class_path")).rpartition(".")[2] == _WEIGHTED_SQUARES
    minimised = not str(stage.get("class_path")).endswith(_FUSION)  # whose tables hold other scores besides
    return settings if of_tables and is_squares and minimised and settings.get("regularization") else None
