"""A model's table of raw token embeddings, read from safetensors without loading the model."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Self

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from face_lightning.errors import DataError
from face_lightning.text.cache import content_key

# Names of the table of raw input embeddings in checkpoints, the most specific first.
_NAMES = (
    "word_embeddings.weight",
    "embed_tokens.weight",
    "tok_embeddings.weight",
    "wte.weight",
    "embed_in.weight",
    "shared.weight",
)
_INDEX = "model.safetensors.index.json"
_ROWS = 4096  # rows of the table in memory at once


class TokenTable:
    """The table `(num_tokens, T)` on disk; only the requested rows are read.

    Args:
        path: Safetensors file of the whole model, or the shard that contains the table.
        name: Name of the tensor in the file.

    Raises:
        DataError: If the file is damaged or the tensor is not a matrix of floating-point numbers.
    """

    def __init__(self, path: Path, name: str) -> None:
        self.path, self.name = path, name
        try:
            with safe_open(path, framework="pt") as file:
                part = file.get_slice(name)
                shape, kind = tuple(part.get_shape()), part.get_dtype()
        except (SafetensorError, OSError) as error:
            raise DataError(f"model: {path} cannot be read ({error}); download the file again") from error
        if len(shape) != 2 or kind not in ("F64", "F32", "F16", "BF16"):
            raise DataError(
                f"model: expected {name} of {path} to be a matrix of floating-point numbers, got {kind} of shape "
                f"{list(shape)}; use the weights before quantization"
            )
        self.shape: tuple[int, int] = (shape[0], shape[1])

    @classmethod
    def find(cls, folder: Path) -> Self | None:
        """Find the table in a model's folder: in a single file, in one of several shards, or in a module's subfolder.

        Returns:
            None if no safetensors file contains a tensor of a known name.

        Raises:
            DataError: If the index is damaged or names a missing file.
        """
        for candidate in _candidate_folders(folder):
            index = candidate / _INDEX
            if index.is_file():
                files = _read_index(index)
                name = _pick(files)
                if name is not None:
                    if not (candidate / files[name]).is_file():
                        raise DataError(
                            f"model: expected {files[name]} with {name} in {candidate}, as {index.name} says, got "
                            "no such file; download that shard (the others are not needed for the words)"
                        )
                    return cls(candidate / files[name], name)
            for path in sorted(candidate.glob("*.safetensors")):
                name = _pick(_tensor_names(path))
                if name is not None:
                    return cls(path, name)
        return None

    @staticmethod
    def shard(folder: Path) -> str:
        """Return a glob pattern of the file with the table, using the index in `folder` if there is one."""
        index = folder / _INDEX
        files = _read_index(index) if index.is_file() else {}
        name = _pick(files)
        return files[name] if name is not None else "*.safetensors"

    @property
    def identity(self) -> str:
        """Key of the table's content; reads the whole table in blocks."""
        with safe_open(self.path, framework="pt") as file:
            part = file.get_slice(self.name)
            blocks = (
                part[start : start + _ROWS].contiguous().view(torch.uint8).numpy().tobytes()
                for start in range(0, self.shape[0], _ROWS)
            )
            return content_key([self.name, str(self.shape), *(content_key([block]) for block in blocks)])

    def rows(self, token_ids: Tensor) -> Tensor:
        """Return the rows of `token_ids` `(N,)` as `(N, T)` in float32.

        Raises:
            DataError: If a token id is out of range.
        """
        if len(token_ids) and not 0 <= int(token_ids.min()) <= int(token_ids.max()) < self.shape[0]:
            raise DataError(
                f"model: expected token ids below {self.shape[0]}, the rows of {self.name} in {self.path}, got up to "
                f"{int(token_ids.max())}; the tokenizer belongs to another model"
            )
        result = torch.empty(len(token_ids), self.shape[1])
        ids, order = token_ids.cpu().sort()
        with safe_open(self.path, framework="pt") as file:
            part = file.get_slice(self.name)
            start = 0
            while start < len(ids):
                first = int(ids[start])
                stop = int(torch.searchsorted(ids, first + _ROWS))
                block = part[first : int(ids[stop - 1]) + 1]
                result[order[start:stop]] = block[ids[start:stop] - first].float()
                start = stop
        return result


def safetensors_missing(model: str, folder: Path) -> DataError:
    """Return the error for a folder without a table of token embeddings."""
    weights = {".bin", ".gguf", ".pt", ".pth", ".safetensors"}
    found = ", ".join(sorted(path.name for path in folder.iterdir() if path.suffix in weights)[:4])
    return DataError(
        f"model: expected a safetensors file with the token embeddings in {folder}, got {found or 'no weights'}; save "
        f"{model!r} with save_pretrained, which writes safetensors"
    )


def _candidate_folders(folder: Path) -> Iterable[Path]:
    """Yield the folder, and the subfolder in which sentence-transformers may keep the model."""
    yield folder
    path = folder / "modules.json"
    if path.is_file():
        for module in json.loads(path.read_text(encoding="utf-8")):
            if str(module.get("type", "")).endswith("Transformer") and module.get("path"):
                yield folder / module["path"]


def _read_index(path: Path) -> dict[str, str]:
    """Return the file of each tensor of a sharded model."""
    try:
        files = json.loads(path.read_text(encoding="utf-8"))["weight_map"]
        # A file name must not point outside the model's folder.
        return {str(name): Path(str(file)).name for name, file in files.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"model: expected a weight_map in {path}, got {error!r}; download the file again") from error


def _tensor_names(path: Path) -> list[str]:
    """Return the names of all tensors in a file."""
    try:
        with safe_open(path, framework="pt") as file:
            return list(file.keys())
    except (SafetensorError, OSError) as error:
        raise DataError(f"model: {path} cannot be read ({error}); download the file again") from error


def _pick(names: Iterable[str]) -> str | None:
    """Return the name of the table of input embeddings: the outermost if submodules share it."""
    found = [(rank, name.count("."), name) for name in names for rank, end in enumerate(_NAMES) if _ends(name, end)]
    return min(found)[2] if found else None


def _ends(name: str, end: str) -> bool:
    return name == end or name.endswith(f".{end}")
