"""The regression to texts of users that a run keeps, by which new users get their words."""

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
    from face_lightning.stages.describing import DescribingStage  # with Lightning, which readers of a run do without

REGRESSION = "user_texts.safetensors"


class NewUserWords:
    """Words of users whom training has not seen, from their embeddings and the texts of their items.

    The mapper learns the words of each known entity by heart and says less of others than this regression.

    Args:
        regression: Predicts centered text vectors of users.
        words: V words.
        word_vectors: Their centered unit vectors `(V, E)`.
        lemmas: Their lemmas `(V,)`.
        num_words: Words a user, K.
        target_pool: Nearest words among which targets of a text are chosen.
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
        """Words of users, those that agree best with all of them first.

        Args:
            embeddings: `(B, D)`.
            item_rows: Items of all users, one after the other, `(N,)`; only those known to training count.
            counts: Number of items of each, `(B,)`.
        """
        known = item_rows < len(self._regression.item_texts)
        owners = np.repeat(np.arange(len(counts)), counts)[known]
        starts = np.searchsorted(owners, np.arange(len(counts)))
        given = torch.from_numpy(item_rows[known].astype(np.int64)), torch.from_numpy(starts)
        predicted = self._regression.predict(embeddings.cpu().float(), *given)
        found = predicted_words(predicted, self._word_vectors, self._lemmas, self._num_words, self._target_pool)
        vectors = self._word_vectors[found]
        order = (vectors @ vectors.mean(1).unsqueeze(2)).squeeze(2).argsort(dim=1, descending=True, stable=True)
        return [[self._words[word] for word in row] for row in found.gather(1, order).tolist()]


def keep_regression(stage: "DescribingStage", embeddings: Embeddings, run_dir: Path) -> None:
    """Fit the regression on the final embeddings of a stage, and write it to the folder of its run.

    Nothing is written where no user or item has a text, or `missing_ridge` is 0.

    Args:
        stage: Stage with texts and words.
        embeddings: Final embeddings, on the CPU.
        run_dir: Folder of the run.
    """
    if not (ridge := stage.words.missing_ridge):
        return
    whole = torch.cat(list(embeddings)).to(stage.device)
    fitted = UserTexts.fit(stage.space.texts, whole, stage.graph.edge_index, ridge)
    if fitted is not None:
        tensors = {name: getattr(fitted.regression, name).float().cpu() for name in ("points", "weights")}
        tensors |= {"item_texts": fitted.item_texts.half().cpu(), "center": fitted.center.float().cpu()}
        sizes = {"num_words": stage.mapper.num_descriptors, "target_pool": stage.words.target_pool}
        save_tensors(run_dir / REGRESSION, tensors, {name: str(size) for name, size in sizes.items()})


def read_regression(run_dir: Path) -> NewUserWords | None:
    """Words of new users, as a run keeps them; None where it does not.

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
