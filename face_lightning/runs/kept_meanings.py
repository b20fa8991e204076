"""Meanings of a run's words and items: sentence vectors saved with it, so that steering needs no text encoder."""

import copy
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import torch
import torch.nn.functional as F
import yaml
from safetensors import SafetensorError, safe_open
from torch import Tensor

from face_lightning.errors import CheckpointError, ConfigurationError, DataError, FaceError
from face_lightning.runs.folder import current_run
from face_lightning.runs.kept_codebook import CODEBOOK
from face_lightning.text.cache import save_tensors
from face_lightning.text.encoders import TextEncoder
from face_lightning.text.sentence_encoder import SentenceEncoder
from face_lightning.text.vocabulary import load_codebook, word_vectors

MEANINGS = "meanings.safetensors"
_NUM_NEAREST = 3  # vocabulary words that represent another word or a phrase


class Meanings:
    """Sentence vectors of the vocabulary and of items, each centered and of unit length.

    Args:
        words: V words.
        word_vectors: Sentence vectors of the words `(V, E)`.
        item_vectors: Sentence vectors of the items' texts `(I, E)`.
        run_dir: Folder of the run whose configuration names the text encoder; None if there is none.
        encoder: The text encoder, if it is already loaded.
    """

    def __init__(
        self,
        words: tuple[str, ...],
        word_vectors: Tensor,
        item_vectors: Tensor,
        run_dir: Path | None = None,
        encoder: SentenceEncoder | None = None,
    ) -> None:
        self.words = words
        self.rows = {word: row for row, word in enumerate(words)}
        self._word_center, self._item_center = word_vectors.mean(0), item_vectors.mean(0)
        self.word_vectors = F.normalize(word_vectors - self._word_center, dim=1)
        self.item_vectors = F.normalize(item_vectors - self._item_center, dim=1)
        self._run_dir, self._loaded_encoder = run_dir, encoder

    def find(self, phrase: str) -> tuple[list[str], Tensor]:
        """Find the vocabulary words that represent a phrase, and their common meaning `(E,)`.

        A word of the vocabulary represents itself. Any other phrase is encoded by the text encoder, and represented by
        the words with the nearest sentence vectors.

        Raises:
            DataError: If the phrase is empty, or not in the vocabulary and no text encoder can be loaded.
        """
        name = " ".join(phrase.lower().split())
        if not name:
            raise DataError("more, less: expected words or phrases, got an empty one; leave it out")
        if name in self.rows:
            return [name], self.word_vectors[self.rows[name]]
        vector = F.normalize(self._encode([name])[0] - self._word_center, dim=0)
        nearest = (self.word_vectors @ vector).topk(min(_NUM_NEAREST, len(self.words))).indices
        return [self.words[row] for row in nearest.tolist()], F.normalize(self.word_vectors[nearest].mean(0), dim=0)

    def of_texts(self, texts: Sequence[str]) -> Tensor:
        """Compute the meanings `(N, E)` of the texts of new items, centered like those of the run's items.

        Raises:
            DataError: If a text is empty, or no text encoder can be loaded.
        """
        if not all(text.strip() for text in texts):
            raise DataError("texts: expected a text of every new item, got an empty one; leave that item out")
        return F.normalize(self._encode(texts) - self._item_center, dim=1)

    def words_of(self, meanings: Tensor, num_words: int) -> list[list[str]]:
        """Select words that together match each of the meanings `(N, E)`, like the target words of training."""
        from face_lightning.words.targets import pursue  # imports the graph libraries, which steering does not need

        num_words = min(num_words, len(self.words))
        rows = pursue(meanings, self.word_vectors, num_words, min(2 * num_words, len(self.words)))
        return [[self.words[row] for row in listed] for listed in rows.tolist()]

    def with_items(self, rows: Tensor, meanings: Tensor, num_items: int) -> "Meanings":
        """A copy for `num_items` items, where the items at `rows` `(N,)` have new meanings `(N, E)`."""
        extended = copy.copy(self)
        extended.item_vectors = F.pad(self.item_vectors, (0, 0, 0, num_items - len(self.item_vectors)))
        extended.item_vectors[rows] = meanings
        return extended

    def _encode(self, texts: Sequence[str]) -> Tensor:
        try:
            return self._encoder.encode(texts)
        except (FaceError, ImportError) as error:
            raise DataError(
                f"words: {texts[0][:60]!r} is not in the vocabulary, and the run's text encoder, which it needs, "
                f"cannot be loaded ({error}); use words of the vocabulary"
            ) from error

    @cached_property
    def _encoder(self) -> SentenceEncoder:
        if self._loaded_encoder is not None:
            return self._loaded_encoder
        if self._run_dir is None:
            raise ConfigurationError("run: expected a run folder to load the text encoder of, got none")
        return _configured_encoder(self._run_dir)


def keep_meanings(run_dir: Path, encoder: SentenceEncoder) -> None:
    """Compute the meanings of words and items, and save them in the folder of a run.

    The folder must contain the vocabulary and the descriptors.

    Args:
        run_dir: Folder of the run.
        encoder: Text encoder of the run.
    """
    codebook, _ = load_codebook(run_dir / CODEBOOK)
    words = word_vectors(encoder, codebook)
    items = _item_vectors(run_dir, encoder, codebook.words, words)
    tensors = {"words": words.half(), "items": items.half()}
    save_tensors(run_dir / MEANINGS, tensors, {"words": " ".join(codebook.words)})


def read_meanings(run_dir: Path, encoder: SentenceEncoder | None = None) -> Meanings:
    """Read the meanings of a run; if it has none, as it is of an earlier version, they are computed and saved first.

    Args:
        run_dir: Folder of the run.
        encoder: Text encoder of the run, if it is already loaded.

    Raises:
        CheckpointError: If the run has no words.
        DataError: If the file is damaged.
    """
    run_dir = current_run(run_dir)
    path = run_dir / MEANINGS
    if not path.is_file():
        if not (run_dir / "descriptors.parquet").is_file() or not (run_dir / CODEBOOK).is_file():
            raise CheckpointError(
                f"run: expected a run with words, but {run_dir} has none; load a finished mapping or alignment run"
            )
        keep_meanings(run_dir, encoder or _configured_encoder(run_dir))
    try:
        with safe_open(path, framework="pt") as file:
            words = tuple(file.metadata()["words"].split())
            vectors, item_vectors = (file.get_tensor(name).float() for name in ("words", "items"))
            return Meanings(words, vectors, item_vectors, run_dir, encoder)
    except (SafetensorError, KeyError, TypeError) as error:
        raise DataError(f"run: {path} is damaged ({error}); remove it, and it is computed again") from error


def _item_vectors(run_dir: Path, encoder: SentenceEncoder, words: tuple[str, ...], vectors_of_words: Tensor) -> Tensor:
    """Sentence vectors of the items' texts `(I, E)`; for items without a text, the mean vector of their words."""
    table = pq.read_table(run_dir / "descriptors.parquet", columns=["kind", "words", "text"])
    items = table.slice(table["kind"].to_pylist().count("user"))
    rows = {word: row for row, word in enumerate(words)}
    word_rows = torch.tensor([[rows[word] for word in listed] for listed in items["words"].to_pylist()])
    vectors = encoder.encode(items["text"].to_pylist())
    missing = vectors.isnan().any(1)
    vectors[missing] = F.normalize(vectors_of_words[word_rows[missing]].mean(1), dim=1)
    return vectors


def _configured_encoder(run_dir: Path) -> SentenceEncoder:
    """Load the text encoder that the run's configuration names."""
    config = yaml.safe_load((run_dir / "config.yaml").read_text())
    words: dict[str, Any] = config["model"]["init_args"].get("words") or {}
    section = (words.get("init_args") or {}).get("encoder") or {}
    name = str(section.get("class_path", "TextEncoder"))
    if name.rsplit(".", 1)[-1] != "TextEncoder":
        raise ConfigurationError(
            f"encoder: expected the run's own TextEncoder, got {name}, which cannot be loaded; use words of the "
            "vocabulary"
        )
    return TextEncoder(**(section.get("init_args") or {}))
