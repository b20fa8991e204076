"""The regression saved with a run that predicts the text vectors, and thereby the words, of new users."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from face_lightning.errors import DataError
from face_lightning.kernel_ridge import KernelRidge
from face_lightning.runs.folder import current_run
from face_lightning.runs.kept_codebook import CODEBOOK
from face_lightning.runs.kept_meanings import read_meanings
from face_lightning.structures import Embeddings
from face_lightning.text.cache import save_tensors
from face_lightning.text.vocabulary import load_codebook
from face_lightning.words.prediction import UserTexts, predicted_words

if TYPE_CHECKING:
    from face_lightning.stages.describing import DescribingStage  # imports Lightning, which reading a run does not need

REGRESSION = "user_texts.safetensors"


class NewUserWords:
    """Predicts the words of users not seen in training, from their embeddings and the texts of their items.

    The mapper memorises the words of known entities, and describes new users less well than this regression.

    Args:
        regression: Predicts centered text vectors of users.
        words: V words.
        word_vectors: Centered unit vectors of the words `(V, E)`.
        lemmas: Lemmas of the words `(V,)`.
        num_words: Number of words per user, K.
        target_pool: Number of nearest words that target words are selected from.
    """

    def __init__(
        self,
        regression: UserTexts,
        words: tuple[str, ...],
        word_vectors: Tensor,
        lemmas: Tensor,
        num_words: int,
        target_pool: int,
    ) -> None:
        self._regression, self._words, self._word_vectors, self._lemmas = regression, words, word_vectors, lemmas
        self._num_words, self._target_pool = num_words, target_pool

    def of(self, embeddings: Tensor, item_rows: np.ndarray, counts: np.ndarray) -> list[list[str]]:
        """Predict the words of users, those closest to their common meaning first.

        Args:
            embeddings: Embeddings of the users `(B, D)`.
            item_rows: Concatenated item rows of all users, `(N,)`; items not seen in training are ignored.
            counts: Number of items of each user, `(B,)`.
        """
        known = item_rows < len(self._regression.item_texts)
        owners = np.repeat(np.arange(len(counts)), counts)[known]
        starts = np.searchsorted(owners, np.arange(len(counts)))
        histories = torch.from_numpy(item_rows[known].astype(np.int64)), torch.from_numpy(starts)
        texts = self._regression.predict(embeddings.cpu().float(), *histories)
        words = predicted_words(texts, self._word_vectors, self._lemmas, self._num_words, self._target_pool)
        vectors = self._word_vectors[words]
        order = (vectors @ vectors.mean(1).unsqueeze(2)).squeeze(2).argsort(dim=1, descending=True, stable=True)
        return [[self._words[word] for word in row] for row in words.gather(1, order).tolist()]


def keep_regression(stage: "DescribingStage", embeddings: Embeddings, run_dir: Path) -> None:
    """Fit the regression on the final embeddings of a stage, and save it in the folder of its run.

    Nothing is written if no user or no item has a text, or if `missing_ridge` is 0.

    Args:
        stage: Stage with texts and words.
        embeddings: Final embeddings, on the CPU.
        run_dir: Folder of the run.
    """
    if not (ridge := stage.words.missing_ridge):
        return
    entities = torch.cat(list(embeddings)).to(stage.device)
    fitted = UserTexts.fit(stage.space.texts, entities, stage.graph.edge_index, ridge)
    if fitted is not None:
        tensors = {name: getattr(fitted.regression, name).float().cpu() for name in ("points", "weights")}
        tensors |= {"item_texts": fitted.item_texts.half().cpu(), "center": fitted.center.float().cpu()}
        sizes = {"num_words": stage.mapper.num_descriptors, "target_pool": stage.words.target_pool}
        save_tensors(run_dir / REGRESSION, tensors, {name: str(size) for name, size in sizes.items()})


def read_regression(run_dir: Path) -> NewUserWords | None:
    """Read the regression of a run; None if it has none.

    Raises:
        DataError: If the file is damaged.
    """
    run_dir = current_run(run_dir)
    path = run_dir / REGRESSION
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            kernel = KernelRidge(file.get_tensor("points"), file.get_tensor("weights"))
            regression = UserTexts(kernel, file.get_tensor("item_texts").float(), file.get_tensor("center"))
            num_words, target_pool = (int(file.metadata()[name]) for name in ("num_words", "target_pool"))
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"run: {path} is damaged ({error}); run that stage again") from error
    codebook, meanings = load_codebook(run_dir / CODEBOOK)[0], read_meanings(run_dir)
    return NewUserWords(regression, codebook.words, meanings.word_vectors, codebook.lemmas, num_words, target_pool)
