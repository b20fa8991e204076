"""What embeddings tell of texts that are missing: kernel ridge regression, and target words of its prediction."""

import torch
import torch.nn.functional as F
from torch import Tensor

from face_lightning.kernel_ridge import KernelRidge
from face_lightning.mapping.anchoring import LexicalTargets
from face_lightning.words.centering import center
from face_lightning.words.space import WordSpace
from face_lightning.words.targets import pursue

_POOL_FACTOR = 2  # a predicted vector lies between texts and farther from any word: its words come from a larger pool


def predict_targets(space: WordSpace, embeddings: Tensor, ridge: float, pool: int) -> Tensor:
    """Target words `(M, W)` of the M entities without a text, in ascending order of ids; -1 where nothing is known.

    Vectors of texts are predicted from embeddings, and the words that together lie nearest to a prediction are its
    targets, as for a text. Items are predicted from items; users from users and items, as both are described by the
    same things, each relative to the mean text of its kind.

    Args:
        space: Texts and words.
        embeddings: Of all users and items, `(U + I, D)`.
        ridge: Ridge of the regression.
        pool: Nearest words among which targets of a text are chosen.
    """
    texts, words, num_words = space.texts, space.word_vectors, space.targets.tokens.shape[1]
    vectors = texts.vectors.masked_fill(~texts.present.unsqueeze(1), torch.nan)
    centered = torch.cat([center(kind) for kind in vectors.split([texts.num_users, len(vectors) - texts.num_users])])
    ids = torch.arange(len(vectors), device=vectors.device)
    is_item = ids >= texts.num_users
    predicted = []
    for of_kind, sources in ((~is_item, ids >= 0), (is_item, is_item)):
        known, missing = (sources & texts.present).nonzero().squeeze(1), (of_kind & ~texts.present).nonzero().squeeze(1)
        if len(known) and len(missing):
            vectors = kernel_ridge(embeddings[known], centered[known], embeddings[missing], ridge)
            near = F.normalize(vectors, dim=1)
            predicted.append(pursue(near, words.vectors, num_words, _POOL_FACTOR * pool, words.lemmas))
        else:
            predicted.append(torch.full((len(missing), num_words), -1, device=words.vectors.device))
    return torch.cat(predicted)


def with_targets(targets: LexicalTargets, present: Tensor, predicted: Tensor) -> LexicalTargets:
    """Targets `(N, W)` in which the predicted ones `(M, W)` stand for the M entities that are not present."""
    tokens, probabilities = targets.tokens.clone(), targets.probabilities.clone()
    predicted = predicted.to(tokens)
    tokens[~present] = predicted.clamp_min(0)
    probabilities[~present] = (predicted >= 0) / predicted.shape[1]
    return LexicalTargets(tokens, probabilities)


def kernel_ridge(known: Tensor, values: Tensor, queries: Tensor, ridge: float = 0.3, max_points: int = 4096) -> Tensor:
    """Values `(M, E)` at queries `(M, D)`, predicted from values `(N, E)` at points `(N, D)`: see `KernelRidge`."""
    return KernelRidge(known, values, ridge, max_points).predict(queries)
