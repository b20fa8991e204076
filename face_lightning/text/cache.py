"""Disk cache of results that are expensive to compute, keyed by a hash of their inputs."""

import errno
import hashlib
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from face_lightning.files import atomic_path


def content_key(parts: Iterable[str | bytes]) -> str:
    """Return the sha256 of a list of parts in hexadecimal.

    Each part is preceded by its length, so that `["ab", "c"]` and `["a", "bc"]` differ.
    """
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.hexdigest()


def file_key(path: Path) -> str:
    """Return the sha256 in hexadecimal of the file at `path`."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sampled_key(path: Path, whole_below: int = 2**30, blocks: int = 64) -> str:
    """Return a key of the file at `path` that is fast to compute even for large files.

    Args:
        path: The file.
        whole_below: Files of at least this size in bytes are sampled: only evenly spaced blocks of 1 MiB are read,
            including the first, which holds the names and shapes of a model's weights, and the last.
        blocks: Number of blocks.
    """
    size = path.stat().st_size
    if size < whole_below:
        return file_key(path)
    block = 2**20
    with path.open("rb") as file:
        parts = [str(size).encode()]
        for number in range(blocks):
            file.seek(max(0, size - block) * number // (blocks - 1))
            parts.append(file.read(block))
    return content_key(parts)


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]] | None:
    """Read the tensors and the metadata of a safetensors file.

    Returns:
        None if the file is missing or damaged; in both cases the caller computes and writes the result again.
    """
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
    except (SafetensorError, OSError):
        return None


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file atomically.

    Args:
        path: Target; its folder is created if needed.
        tensors: Tensors by name, on any device.
        metadata: Strings for the file's header.

    Raises:
        OSError: If the file cannot be written, e.g. because the disk is full.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    try:
        with atomic_path(path) as temporary:
            save_file(contiguous, temporary, metadata=dict(metadata))
    except SafetensorError as error:  # contains the system's error code only in its text
        number = re.search(r"os error (\d+)", str(error))
        code = int(number[1]) if number else errno.EIO
        raise OSError(code, os.strerror(code), str(path)) from error
