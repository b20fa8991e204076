"""Checkpoints read back: safely, checked, and in part where a stage starts from another."""

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
    """Content of a checkpoint of this package, on the CPU; only tensors and plain values are unpickled.

    Args:
        path: File.
        argument: Name of the user's argument, for the error.

    Raises:
        CheckpointError: If there is no such file, or it is damaged or not a checkpoint of a stage.
    """
    if not path.is_file():
        raise CheckpointError(
            f"{argument}: expected a checkpoint, but there is no file {path}; "
            f"{_whole_one(path) or 'train that stage first'}, or correct the path"
        )
    try:
        checkpoint = _read(path)
    except Exception as error:
        reason = (str(error) or type(error).__name__).splitlines()[0].partition(". ")[0]
        cure = _whole_one(path) or "use another checkpoint"
        raise CheckpointError(
            f"{argument}: expected a checkpoint of tensors and plain values, but {path} cannot be read ({reason:.99}), "
            f"as it is damaged or foreign; {cure}, or train the stage again"
        ) from error
    if not isinstance(checkpoint, dict) or not {"state_dict", "face_stage"} <= checkpoint.keys():
        raise CheckpointError(
            f"{argument}: expected a checkpoint that a stage of face_lightning wrote, but {path} is another; give one "
            "of those"
        )
    check_types(path, checkpoint, argument)
    return checkpoint


def _read(path: Path) -> Any:  # noqa: ANN401
    """Result of torch.load, after checking the checksums, which it ignores."""
    check_checksums(path)
    return torch.load(path, map_location="cpu", weights_only=True)


def _whole_one(damaged: Path) -> str | None:
    """Advice to use the run's newest checkpoint that can be read in place of `damaged`; None where there is none."""
    for name in ("last.ckpt", "previous.ckpt", "best.ckpt"):
        path = damaged.with_name(name)
        if path == damaged or not path.is_file():
            continue
        try:
            if "face_stage" in _read(path):
                return f"use {path}, which is whole"
        except Exception:
            continue
    return None


def locate_checkpoint(source: Path) -> Path:
    """The checkpoint that `source` means: a file, or the best one of a run folder.

    Raises:
        CheckpointError: If there is none.
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
            f"init_from: expected a run folder or a checkpoint, but {source} does not exist; run the stage before first"
        )
    return source


def check_stage(path: Path, expected: str, resumes: bool = False) -> dict[str, Any] | None:
    """Refuse to resume or evaluate a stage from a checkpoint of another one.

    Args:
        path: The checkpoint.
        expected: Name of the stage.
        resumes: Whether training goes on from it.

    Returns:
        Identity of the data that the checkpoint was trained on; None where it does not say.

    Raises:
        CheckpointError: If the checkpoint at `path` is of another stage than `expected`, or its state names files that
            a resumed run would delete.
    """
    checkpoint = load_checkpoint(path)
    found = checkpoint["face_stage"]
    if found != expected:
        raise CheckpointError(
            f"ckpt_path: expected a checkpoint of stage '{expected}', got one of stage '{found}' ({path}); to start a "
            "stage from another one use --init_from instead"
        )
    if resumes:
        check_resumable(path, checkpoint)
    for state in checkpoint.get("callbacks", {}).values():
        check_checkpoint_state(state)
    identity: dict[str, Any] | None = checkpoint.get("data")
    return identity


def init_from(module: nn.Module, source: Path, data: TrainingData | None = None) -> str:
    """Copy the parts that `module` shares with an earlier stage: `backbone`, and `mapper` if both have one.

    Rows of a run on other data are taken over by original id: see `transfer_rows`.

    Args:
        module: Stage to start.
        source: Run folder or checkpoint.
        data: What the stage is trained on; taken to be what the run was trained on if None.

    Returns:
        A line that says what was copied.

    Raises:
        CheckpointError: If nothing matches, or a part differs in its parameters or their shapes.
    """
    path = locate_checkpoint(source)
    checkpoint = load_checkpoint(path, "init_from")
    state: dict[str, Tensor] = checkpoint["state_dict"]
    own = module.state_dict()
    transferred = ""
    trained_on = checkpoint.get("data")
    other = data is not None and trained_on is not None and trained_on["fingerprint"] != data.fingerprint
    if data is not None and other and TABLE in state and TABLE in own:
        state[TABLE], transferred = transfer_rows(own[TABLE], state[TABLE], path.parent.parent, data)
    copied = []
    for part in PARTS:
        theirs = {key: value for key, value in state.items() if key.startswith(part + ".")}
        ours = {key: value for key, value in own.items() if key.startswith(part + ".")}
        if not theirs or not ours:
            continue
        _check_part(part, ours, theirs, path)
        module.load_state_dict(theirs, strict=False)
        copied.append(f"{part} ({len(theirs)} tensors)")
    if not copied:
        raise CheckpointError(
            f"init_from: {path} has none of the parts {', '.join(PARTS)} that this stage holds; give an earlier stage"
        )
    return f"started from {path}: {', '.join(copied)}{transferred}"


def _check_part(part: str, ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor], path: Path) -> None:
    unshared = sorted(ours.keys() ^ theirs.keys())
    if unshared:
        raise CheckpointError(
            f"init_from: the {part} in {path} is of another kind ({unshared[0]} is on one side only); configure the "
            f"same {part} as that run did"
        )
    for key, value in ours.items():
        if value.shape != theirs[key].shape:
            raise CheckpointError(
                f"init_from: {key} has shape {tuple(theirs[key].shape)} in {path}, but {tuple(value.shape)} here; set "
                f"the same sizes (embedding_dim, num_descriptors, concept_dim) and data as that run"
            )
