"""Cache of files derived from a run's tables, written by one process and memory-mapped by all processes of a server."""

import contextlib
import fcntl
import hashlib
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from face_lightning.files import atomic_path


class SharedFiles:
    """File cache in a folder that is named by the hash of the tables that the files are derived from.

    Args:
        root: Cache folder of the processes that share files.
        tables: Tables that all files are derived from, on the CPU.
    """

    def __init__(self, root: Path, tables: Sequence[Tensor]) -> None:
        fingerprint = hashlib.blake2b(digest_size=16)
        for table in tables:
            fingerprint.update(str(tuple(table.shape)).encode())
            fingerprint.update(table.numpy().data)
        self._folder = root / fingerprint.hexdigest()

    def path(self, name: str, write: Callable[[Path], None]) -> Path:
        """Path of a cached file; the first process writes it, under a lock that the others wait for.

        Args:
            name: Name of the file.
            write: Writes the file to the given path; called only if the file is missing.
        """
        path = self._folder / name
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / f".{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not path.exists():
                with atomic_path(path) as temporary:
                    write(temporary)
        return path

    def tensor(self, name: str, build: Callable[[], Tensor]) -> Tensor:
        """Memory-mapped tensor from the cache; `build` is called only if it is missing.

        `torch.save` aligns tensors to 64 bytes in a file and `safetensors` does not: products of an unaligned bfloat16
        table are slow.
        """
        path = self.path(f"{name}.pt", lambda path: torch.save(build().contiguous(), path))
        tensor: Tensor = torch.load(path, mmap=True, weights_only=True)
        return tensor

    def remove_others(self) -> None:
        """Remove the cached files of other tables; processes that still map them are not affected."""
        with contextlib.suppress(OSError):
            for folder in self._folder.parent.iterdir():
                if folder != self._folder:
                    shutil.rmtree(folder, ignore_errors=True)
