"""Encoding of large numbers of texts in shards: resumable, distributed over processes, memory-mapped."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from face_lightning.files import atomic_path
from face_lightning.text.cache import load_tensors, save_tensors

SHARD = 16_384  # texts


def encode_in_shards(
    texts: Sequence[str | None],
    encode: Callable[[list[str]], Tensor],
    path: Path,
    shard_size: int = SHARD,
    rank: int | None = None,
    world_size: int | None = None,
) -> Tensor:
    """Encode texts with one shard of vectors in memory at a time.

    Distinct texts are sorted by length to reduce padding, and split into shards, which are one file each. An
    interrupted run continues with the first missing shard. With several processes, each encodes the shards of its
    rank; a process that cannot see the others' shards, because they have no common folder, encodes these as well.

    Args:
        texts: N texts; None stands for a missing text.
        encode: Encodes a list of texts as vectors `(n, E)` in float32 on the CPU.
        path: File `.npy` of the result; shards are kept in a folder next to it until it is complete.
        shard_size: Number of texts per shard.
        rank: Index of this process; that of the process group by default, or 0.
        world_size: Number of processes; likewise, or 1. Without a process group, start the joining process last: it
            encodes the shards that it does not find.

    Returns:
        `(N, E)` in float32, memory-mapped from `path` (copy on write). Rows of missing texts are NaN.

    Raises:
        ValueError: If there is no text at all.
    """
    if not path.is_file():
        group = rank is None and dist.is_available() and dist.is_initialized()
        if group:
            rank, world_size = dist.get_rank(), dist.get_world_size()
        unique = sorted(dict.fromkeys(text for text in texts if text is not None), key=lambda text: (-len(text), text))
        if not unique:
            raise ValueError("texts: expected at least one text, got none")
        folder = path.with_suffix(".shards")
        count = -(-len(unique) // shard_size)
        shards = {
            folder / f"{number:06}-of-{count:06}.safetensors": unique[number * shard_size : (number + 1) * shard_size]
            for number in range(count)
        }
        for file, shard in list(shards.items())[rank or 0 :: world_size or 1]:
            _encode_shard(shard, file, encode)
        if group:
            dist.barrier()  # all shards are complete
        if not group or rank == 0:
            _join(texts, shards, encode, path)
        if group:
            dist.barrier()  # the result is complete
            if not path.is_file():  # written on another machine
                _join(texts, shards, encode, path)
        shutil.rmtree(folder, ignore_errors=True)
    return torch.from_numpy(np.load(path, mmap_mode="c"))


def _encode_shard(texts: list[str], file: Path, encode: Callable[[list[str]], Tensor]) -> Tensor:
    """Return the vectors of a shard, from its file if that is complete."""
    stored = load_tensors(file)
    if stored is not None and len(stored[0].get("vectors", ())) == len(texts):
        return stored[0]["vectors"]
    vectors = encode(texts)
    save_tensors(file, {"vectors": vectors}, {})
    return vectors


def _join(
    texts: Sequence[str | None],
    shards: Mapping[Path, list[str]],
    encode: Callable[[list[str]], Tensor],
    path: Path,
) -> None:
    """Write the vectors of all shards to one file, in the order of the texts."""
    rows: dict[str, list[int]] = {}
    missing = []
    for row, text in enumerate(texts):
        if text is None:
            missing.append(row)
        else:
            rows.setdefault(text, []).append(row)
    result: np.memmap | None = None
    with atomic_path(path) as temporary:
        for file, shard in shards.items():
            vectors = _encode_shard(shard, file, encode).numpy()
            if result is None:
                shape = (len(texts), vectors.shape[1])
                result = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.float32, shape=shape)
                result[missing] = np.nan
            pairs = [(row, index) for index, text in enumerate(shard) for row in rows[text]]
            targets, sources = (list(numbers) for numbers in zip(*pairs, strict=True))
            result[targets] = vectors[sources]
        if result is not None:
            result.flush()
