"""What follows from a run's tables, in files that one process writes and all processes of a server map."""

import contextlib
import fcntl
import hashlib
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from face_lightning.files import atomic_path


class SharedFiles:
    """Files that follow from tables, and are named by their content: other tables find other files.

    Args:
        root: Folder of the processes that share files.
        tables: What all files follow from, on the CPU.
    """

    def __init__(self, root: Path, tables: Sequence[Tensor]) -> None:
        content = hashlib.blake2b(digest_size=16)
        for table in tables:
            content.update(str(tuple(table.shape)).encode())
            content.update(table.numpy().data)
        self._folder = root / content.hexdigest()

    def path(self, name: str, write: Callable[[Path], None]) -> Path:
        """File of a name, which the first process writes while others wait for it.

        Args:
            name: Of the file.
            write: Writes it to a path.
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
        """Memory-mapped tensor of a name, which the first process builds."""
        path = self.path(f"{name}.safetensors", lambda path: save_file({name: build().contiguous()}, path))
        with safe_open(path, framework="pt") as file:
            tensor: Tensor = file.get_tensor(name)
        return tensor

    def remove_others(self) -> None:
        """Remove what followed from other tables; processes that still map it keep it until they let go."""
        with contextlib.suppress(OSError):
            for folder in self._folder.parent.iterdir():
                if folder != self._folder:
                    shutil.rmtree(folder, ignore_errors=True)
