"""Reading of checkpoints: safe loading, checks, and initialisation of a stage from the checkpoint of another."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from face_lightning.errors import CheckpointError
from face_lightning.runs.checkpoint_checks import check_checkpoint_state, check_checksums, check_resumable, check_types
from face_lightning.runs.folder import current_run
from face_lightning.runs.row_transfer import TABLE, TrainingData, transfer_rows

PARTS = ("backbone", "mapper")


def load_checkpoint(path: Path, argument: str = "ckpt_path") -> dict[str, Any]:
    """Load a checkpoint of this package to the CPU; only tensors and plain values are unpickled.

    Args:
        path: Path of the checkpoint.
        argument: Name of the user's argument, for error messages.

    Raises:
        CheckpointError: If there is no such file, or it is damaged or not a checkpoint of a stage.
    """
    if not path.is_file():
        raise CheckpointError(
            f"{argument}: expected a checkpoint, but there is no file {path}; "
            f"{_suggest_checkpoint(path) or 'train that stage first'}, or correct the path"
        )
    try:
        checkpoint = _read(path)
    except Exception as error:
        reason = (str(error) or type(error).__name__).splitlines()[0].partition(". ")[0]
        cure = _suggest_checkpoint(path) or "use another checkpoint"
        raise CheckpointError(
            f"{argument}: expected a checkpoint of tensors and plain values, but {path} cannot be read ({reason:.99}), "
            f"as it is damaged or foreign; {cure}, or train the stage again"
        ) from error
    if not isinstance(checkpoint, dict) or not {"state_dict", "face_stage"} <= checkpoint.keys():
        raise CheckpointError(
            f"{argument}: expected a checkpoint that a stage of face_lightning wrote, but {path} is not one; use "
            "another checkpoint"
        )
    check_types(path, checkpoint, argument)
    return checkpoint


def _read(path: Path) -> Any:  # noqa: ANN401
    """Run torch.load after verifying the checksums, which it ignores."""
    check_checksums(path)
    return torch.load(path, map_location="cpu", weights_only=True)


def _suggest_checkpoint(damaged: Path) -> str | None:
    """Advice to use the run's newest readable checkpoint instead of `damaged`; None if there is none."""
    for name in ("last.ckpt", "previous.ckpt", "best.ckpt"):
        path = damaged.with_name(name)
        if path == damaged or not path.is_file():
            continue
        try:
            if "face_stage" in _read(path):
                return f"use {path}, which is intact"
        except Exception:
            continue
    return None


def locate_checkpoint(source: Path) -> Path:
    """Path of a checkpoint, given the file itself, or a run folder, whose best checkpoint is used.

    Raises:
        CheckpointError: If there is no such checkpoint.
    """
    if source.is_dir():
        best = current_run(source) / "checkpoints" / "best.ckpt"
        if not best.is_file():
            raise CheckpointError(
                f"init_from: {source} has no checkpoints/best.ckpt; finish that run first, or name another run"
            )
        return best
    if not source.is_file():
        raise CheckpointError(
            f"init_from: expected a run folder or a checkpoint, but {source} does not exist; run the earlier stage "
            "first"
        )
    return source


def check_stage(path: Path, expected: str, resumes: bool = False) -> dict[str, Any] | None:
    """Check that a stage can be resumed or evaluated from a checkpoint.

    Args:
        path: Path of the checkpoint.
        expected: Name of the stage.
        resumes: Whether training is resumed from the checkpoint.

    Returns:
        Identity of the data that the checkpoint was trained on; None if it is not recorded.

    Raises:
        CheckpointError: If the checkpoint is of another stage than `expected`, lacks entries to resume from, or its
            state names files that a resumed run would delete.
    """
    checkpoint = load_checkpoint(path)
    stage = checkpoint["face_stage"]
    if stage != expected:
        raise CheckpointError(
            f"ckpt_path: expected a checkpoint of stage '{expected}', got one of stage '{stage}' ({path}); to start a "
            "stage from another one use --init_from instead"
        )
    if resumes:
        check_resumable(path, checkpoint)
    for state in checkpoint.get("callbacks", {}).values():
        check_checkpoint_state(state)
    identity: dict[str, Any] | None = checkpoint.get("data")
    return identity


def init_from(module: nn.Module, source: Path, data: TrainingData | None = None) -> str:
    """Initialise the parts that `module` shares with an earlier stage: `backbone`, and `mapper` if both have one.

    If the run was trained on other data, rows of tables are matched by original id: see `transfer_rows`.

    Args:
        module: Stage to initialise.
        source: Run folder or checkpoint.
        data: Training data of the stage; assumed to be the same as the run's if None.

    Returns:
        A line for the log that names the copied parts.

    Raises:
        CheckpointError: If no part matches, or a part differs in its parameters or their shapes.
    """
    path = locate_checkpoint(source)
    checkpoint = load_checkpoint(path, "init_from")
    state: dict[str, Tensor] = checkpoint["state_dict"]
    module_state = module.state_dict()
    transferred = ""
    trained_on = checkpoint.get("data")
    is_other_data = data is not None and trained_on is not None and trained_on["fingerprint"] != data.fingerprint
    if data is not None and is_other_data and TABLE in state and TABLE in module_state:
        state[TABLE], transferred = transfer_rows(module_state[TABLE], state[TABLE], path.parent.parent, data)
    copied = []
    for part in PARTS:
        source_part = {key: value for key, value in state.items() if key.startswith(part + ".")}
        module_part = {key: value for key, value in module_state.items() if key.startswith(part + ".")}
        if not source_part or not module_part:
            continue
        _check_part(part, module_part, source_part, path)
        module.load_state_dict(source_part, strict=False)
        copied.append(f"{part} ({len(source_part)} tensors)")
    if not copied:
        raise CheckpointError(
            f"init_from: {path} has none of the parts {', '.join(PARTS)} that this stage holds; give an earlier stage"
        )
    return f"started from {path}: {', '.join(copied)}{transferred}"


def _check_part(part: str, module_part: Mapping[str, Tensor], source_part: Mapping[str, Tensor], path: Path) -> None:
    """Check that two parts have the same parameters with the same shapes."""
    unshared = sorted(module_part.keys() ^ source_part.keys())
    if unshared:
        raise CheckpointError(
            f"init_from: the {part} in {path} is of another kind ({unshared[0]} is on one side only); configure the "
            f"same {part} as that run did"
        )
    for key, value in module_part.items():
        if value.shape != source_part[key].shape:
            raise CheckpointError(
                f"init_from: {key} has shape {tuple(source_part[key].shape)} in {path}, but {tuple(value.shape)} here; "
                "set the same sizes (embedding_dim, num_descriptors, concept_dim) and data as that run"
            )
