"""Checks of checkpoints as files from outside, without Lightning."""

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from face_lightning.errors import CheckpointError

BEST = "best.ckpt"
PATHS = ("best_model_path", "kth_best_model_path", "last_model_path")  # in the state of a ModelCheckpoint


def check_checksums(path: Path) -> None:
    """Refuse a checkpoint whose content is not what was written: torch.load ignores its checksums.

    Raises:
        CheckpointError: If a checksum is wrong, or content is compressed: torch never compresses, and a small file
            could take any amount of memory.
        BadZipFile: If it is no archive.
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


def check_checkpoint_state(state: Mapping[str, Any]) -> None:
    """Refuse a state of a ModelCheckpoint that names files which it did not write itself.

    The callback deletes the file that a better one replaces, so that a crafted state could delete any file. The state
    of `RunCheckpoint` (`dirpath` ".") names best.ckpt alone; that of another ModelCheckpoint names checkpoints directly
    in its own folder, and is restored by a callback with the same folder only.

    Args:
        state: State of any callback; those without the keys of a ModelCheckpoint pass.

    Raises:
        CheckpointError: If it names other files.
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
