"""Checks of checkpoints as untrusted files, without Lightning."""

import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from face_lightning.errors import CheckpointError

BEST = "best.ckpt"
# Types of the entries that Lightning and the stages read from a checkpoint.
_TYPES: dict[str, type] = {
    **dict.fromkeys(("state_dict", "loops", "callbacks", "hyper_parameters", "data", "epoch_means"), dict),
    **dict.fromkeys(("optimizer_states", "lr_schedulers"), list),
    **dict.fromkeys(("epoch", "global_step"), int),
    **dict.fromkeys(("face_stage", "pytorch-lightning_version"), str),
}
PATHS = ("best_model_path", "kth_best_model_path", "last_model_path")  # keys in the state of a ModelCheckpoint


def check_checksums(path: Path) -> None:
    """Verify the checksums of a checkpoint, which torch.load ignores.

    Raises:
        CheckpointError: If a checksum is wrong, or content is compressed: torch never compresses, and a small
            compressed file could exhaust the memory.
        BadZipFile: If the file is not a zip archive.
    """
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size:
                raise CheckpointError(
                    f"{entry.filename} of {entry.file_size / 2**20:,.0f} MiB is compressed to "
                    f"{entry.compress_size / 2**20:,.2f} MiB"
                )
        damaged = archive.testzip()
    if damaged is not None:
        raise CheckpointError(f"wrong checksum of {damaged}")


def check_types(path: Path, checkpoint: Mapping[str, Any], argument: str) -> None:
    """Check the types of the entries of a checkpoint.

    Raises:
        CheckpointError: If an entry has another type than a stage writes.
    """
    for name, expected in _TYPES.items():
        entry = checkpoint.get(name)
        if entry is not None and not isinstance(entry, expected):
            raise CheckpointError(
                f"{argument}: expected a checkpoint that a stage wrote, but {name} of {path} is {type(entry).__name__} "
                f"instead of {expected.__name__}; use another checkpoint"
            )


def check_resumable(path: Path, checkpoint: Mapping[str, Any]) -> None:
    """Check that a checkpoint has all entries that Lightning restores.

    Raises:
        CheckpointError: If an entry is missing, or the version of Lightning is not valid.
    """
    missing = [name for name in ("loops", "callbacks", "optimizer_states", "lr_schedulers") if name not in checkpoint]
    if not re.match(r"\d+\.\d+", checkpoint.get("pytorch-lightning_version", "")):
        missing.append("pytorch-lightning_version")
    if missing:
        raise CheckpointError(
            f"ckpt_path: expected a checkpoint that a stage wrote, but {path} lacks {missing[0]}; use another "
            "checkpoint, or --init_from, which reads weights alone"
        )


def restoring_failed(path: str, error: BaseException) -> CheckpointError:
    """Build the error for a state that cannot be restored, as it is incomplete, or of another version or run.

    Args:
        path: Path of the checkpoint.
        error: Exception that restoring raised.
    """
    return CheckpointError(
        f"ckpt_path: expected a state that a stage of this version wrote, but {path} cannot be restored "
        f"({type(error).__name__}: {error!s:.99}); use another checkpoint, or --init_from, which reads weights alone"
    )


def check_checkpoint_state(state: Mapping[str, Any]) -> None:
    """Check that the state of a ModelCheckpoint only names files that the callback writes itself.

    The callback deletes the file that a better checkpoint replaces, so a crafted state could delete any file. The state
    of `RunCheckpoint` (`dirpath` ".") may name best.ckpt only. That of another ModelCheckpoint may name checkpoints
    directly in its own folder, and is only restored by a callback with the same folder.

    Args:
        state: State of any callback; those without the keys of a ModelCheckpoint pass.

    Raises:
        CheckpointError: If the state names other files.
    """
    if not (isinstance(state, Mapping) and state.keys() & {*PATHS, "best_k_models"}):
        return
    models, folder = state.get("best_k_models", {}), state.get("dirpath")
    paths = [state.get(key, "") for key in PATHS] + list(models if isinstance(models, Mapping) else [models])
    for path in paths:
        if path == "" or (isinstance(path, str) and _is_own_file(path, folder)):
            continue
        raise CheckpointError(
            f"ckpt_path: expected a state that names checkpoints of its own folder, got {path!r:.99}, a file that "
            "resuming could delete; use a checkpoint that you trust, or --init_from, which reads weights alone"
        )


def _is_own_file(path: str, folder: Any) -> bool:  # noqa: ANN401 from a checkpoint
    if folder == ".":
        return path == BEST
    return isinstance(folder, str) and Path(path).parent == Path(folder) and path.endswith(".ckpt")
