"""What embeddings tell of texts that are missing: kernel ridge regression, and words of its prediction."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from face_lightning.kernel_ridge import MAX_POINTS, KernelRidge
from face_lightning.mapping.anchoring import LexicalTargets
from face_lightning.words.centering import center
from face_lightning.words.space import WordSpace
from face_lightning.words.targets import pursue

_POOL_FACTOR = 2  # a predicted vector lies between texts and farther from any word: its words come from a larger pool


def fit_texts(
    space: WordSpace, embeddings: Tensor, side: Literal["users", "items"], ridge: float
) -> KernelRidge | None:
    """Regression from embeddings to centered text vectors; None where no text is known.

    Items are predicted from items; users from users and items, as both are described by the same things, each relative
    to the mean text of its kind.

    Args:
        space: Texts.
        embeddings: Of all users and items, `(U + I, D)`.
        side: Whose texts are to be predicted.
        ridge: Ridge of the regression.
    """
    texts = space.texts
    vectors = texts.vectors.masked_fill(~texts.present.unsqueeze(1), torch.nan)
    centered = torch.cat([center(kind) for kind in vectors.split([texts.num_users, len(vectors) - texts.num_users])])
    known = texts.present.clone()
    if side == "items":
        known[: texts.num_users] = False
    rows = known.nonzero().squeeze(1)
    rows = rows[:: max(1, -(-len(rows) // MAX_POINTS))]  # as the regression would choose, without copies of all
    return KernelRidge.fit(embeddings[rows], centered[rows], ridge) if len(rows) else None


def predicted_words(
    predicted: Tensor, word_vectors: Tensor, lemmas: Tensor, num_words: int, target_pool: int
) -> Tensor:
    """Words `(N, K)` that together lie nearest to predicted text vectors `(N, E)`, chosen as targets of texts are.

    Args:
        predicted: What a regression of `fit_texts` gave.
        word_vectors: Centered unit vectors of the vocabulary's words `(V, E)`.
        lemmas: Lemma of each word, `(V,)`.
        num_words: K.
        target_pool: Nearest words among which targets of a text are chosen.
    """
    return pursue(F.normalize(predicted, dim=1), word_vectors, num_words, _POOL_FACTOR * target_pool, lemmas)


def predict_targets(space: WordSpace, embeddings: Tensor, ridge: float, pool: int) -> Tensor:
    """Target words `(M, W)` of the M entities without a text, in ascending order of ids; -1 where nothing is known.

    Args:
        space: Texts and words.
        embeddings: Of all users and items, `(U + I, D)`.
        ridge: Ridge of the regression.
        pool: Nearest words among which targets of a text are chosen.
    """
    words, num_words = space.word_vectors, space.targets.tokens.shape[1]
    missing = (~space.texts.present).nonzero().squeeze(1)
    is_user = missing < space.texts.num_users
    found = torch.full((len(missing), num_words), -1, device=words.vectors.device)
    sides: tuple[tuple[Literal["users", "items"], Tensor], ...] = (("users", is_user), ("items", ~is_user))
    for side, rows in sides:
        regression = fit_texts(space, embeddings, side, ridge) if bool(rows.any()) else None
        if regression is not None:
            predicted = regression.predict(embeddings[missing[rows]])
            found[rows] = predicted_words(predicted, words.vectors, words.lemmas, num_words, pool)
    return found


def with_targets(targets: LexicalTargets, present: Tensor, predicted: Tensor) -> LexicalTargets:
    """Targets `(N, W)` in which the predicted ones `(M, W)` stand for the M entities that are not present."""
    tokens, probabilities = targets.tokens.clone(), targets.probabilities.clone()
    predicted = predicted.to(tokens)
    tokens[~present] = predicted.clamp_min(0)
    probabilities[~present] = (predicted >= 0) / predicted.shape[1]
    return LexicalTargets(tokens, probabilities)
