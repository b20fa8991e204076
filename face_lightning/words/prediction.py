"""Prediction of missing texts from interactions, by kernel ridge regression on text vectors."""

from dataclasses import dataclass
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor

from face_lightning.kernel_ridge import MAX_POINTS, KernelRidge
from face_lightning.mapping.anchoring import LexicalTargets
from face_lightning.words.centering import center
from face_lightning.words.entity_texts import EntityTexts
from face_lightning.words.space import WordSpace
from face_lightning.words.targets import pursue

_POOL_FACTOR = 2  # predicted vectors average over texts and lie farther from all words, so they need a larger pool


@dataclass(frozen=True)
class UserTexts:
    """Predicts centered text vectors of users from their embeddings and the texts of the items they interacted with.

    The input concatenates two unit vectors: the user's embedding, and the mean text vector of the user's items (zeros
    if none has a text). The regression is fitted on users and items, where an item counts as a user of only this item.
    Text vectors of users and of items are centered separately.

    Attributes:
        regression: Kernel ridge regression from inputs `(N, D + E)`.
        item_texts: Centered unit vectors of the items' texts `(I, E)`; zeros for items without text.
        center: Mean over users of their mean item text, subtracted from the input, `(E,)`.
    """

    regression: KernelRidge
    item_texts: Tensor
    center: Tensor

    @classmethod
    def fit(cls, texts: EntityTexts, embeddings: Tensor, interactions: Tensor, ridge: float) -> Self | None:
        """Fit the regression on all users and items with text; None if there are none.

        Args:
            texts: Texts of all entities.
            embeddings: Embeddings of all users and items, `(U + I, D)`.
            interactions: User ids and item ids of the training interactions, `(2, N)`, sorted by user.
            ridge: Ridge of the regression.
        """
        if not bool(texts.present.any()):
            return None
        centered, num_users = _center_by_kind(texts), texts.num_users
        users, item_ids = interactions
        means, known = _mean_texts(centered[num_users:], item_ids, _starts(users, num_users))
        mean = means[known].mean(0) if bool(known.any()) else torch.zeros_like(means[0])
        contexts = torch.cat([(means - mean) * known.unsqueeze(1), centered[num_users:]])
        rows = _evenly_spaced(texts.present.nonzero().squeeze(1))
        regression = KernelRidge.fit(_concatenate(embeddings[rows], contexts[rows]), centered[rows], ridge)
        return cls(regression, centered[num_users:], mean)

    def predict(self, embeddings: Tensor, item_ids: Tensor, starts: Tensor) -> Tensor:
        """Predict text vectors `(B, E)` of users.

        Args:
            embeddings: `(B, D)`.
            item_ids: Concatenated items of all users, `(N,)`.
            starts: Index of each user's first item in `item_ids`, `(B,)`.
        """
        means, known = _mean_texts(self.item_texts, item_ids, starts)
        return self.regression.predict(_concatenate(embeddings, (means - self.center) * known.unsqueeze(1)))


def predict_item_texts(
    texts: EntityTexts, embeddings: Tensor, interactions: Tensor, ridge: float, item_ids: Tensor
) -> Tensor | None:
    """Predict centered text vectors `(B, E)` of items from the items with text; None if there are none.

    The input concatenates two unit vectors: the item's embedding, and the mean text vector of the other items that its
    users interacted with.

    Args:
        texts: Texts of all entities.
        embeddings: Embeddings of all users and items, `(U + I, D)`.
        interactions: User ids and item ids of the training interactions, `(2, N)`, sorted by user.
        ridge: Ridge of the regression.
        item_ids: Items without text, `(B,)`.
    """
    present = texts.present[texts.num_users :]
    if not bool(present.any()):
        return None
    item_texts = _center_by_kind(texts)[texts.num_users :]
    means, known = _mean_texts_of_others(item_texts, interactions, texts.num_users)
    fitted = known & present
    mean = means[fitted].mean(0) if bool(fitted.any()) else torch.zeros_like(means[0])
    inputs = _concatenate(embeddings[texts.num_users :], (means - mean) * known.unsqueeze(1))
    rows = _evenly_spaced(present.nonzero().squeeze(1))
    return KernelRidge.fit(inputs[rows], item_texts[rows], ridge).predict(inputs[item_ids])


def predicted_words(
    predicted: Tensor, word_vectors: Tensor, lemmas: Tensor, num_words: int, target_pool: int
) -> Tensor:
    """Choose words `(N, K)` for predicted text vectors `(N, E)`, as `lexical_targets` does for texts.

    Args:
        predicted: Output of a regression.
        word_vectors: Centered unit vectors of the vocabulary's words `(V, E)`.
        lemmas: Lemma of each word, `(V,)`.
        num_words: K.
        target_pool: Number of nearest words from which the targets of a text are chosen.
    """
    return pursue(F.normalize(predicted, dim=1), word_vectors, num_words, _POOL_FACTOR * target_pool, lemmas)


def predict_targets(space: WordSpace, embeddings: Tensor, interactions: Tensor, ridge: float, pool: int) -> Tensor:
    """Predict target words `(M, W)` of the M entities without text, in ascending order of ids.

    Rows are -1 if there are no texts to predict from.

    Args:
        space: Texts and words.
        embeddings: Embeddings of all users and items, `(U + I, D)`.
        interactions: User ids and item ids of the training interactions, `(2, N)`, sorted by user.
        ridge: Ridge of the regression.
        pool: Number of nearest words from which the targets of a text are chosen.
    """
    texts, words, num_words = space.texts, space.word_vectors, space.targets.tokens.shape[1]
    missing = (~texts.present).nonzero().squeeze(1)
    users, items = missing[missing < texts.num_users], missing[missing >= texts.num_users] - texts.num_users
    predicted: list[Tensor | None] = [None, None]
    if len(users) and (regression := UserTexts.fit(texts, embeddings, interactions, ridge)) is not None:
        selected = interactions[:, torch.isin(interactions[0], users)]
        starts = torch.searchsorted(selected[0].contiguous(), users)
        predicted[0] = regression.predict(embeddings[users], selected[1], starts)
    if len(items):
        predicted[1] = predict_item_texts(texts, embeddings, interactions, ridge, items)
    found = [
        torch.full((len(ids), num_words), -1, device=words.vectors.device)
        if vectors is None
        else predicted_words(vectors, words.vectors, words.lemmas, num_words, pool)
        for ids, vectors in zip((users, items), predicted, strict=True)
    ]
    return torch.cat(found)


def with_targets(targets: LexicalTargets, present: Tensor, predicted: Tensor) -> LexicalTargets:
    """Replace the targets of the M entities that are not `present` by the predicted ones `(M, W)`."""
    tokens, probabilities = targets.tokens.clone(), targets.probabilities.clone()
    predicted = predicted.to(tokens)
    tokens[~present] = predicted.clamp_min(0)
    probabilities[~present] = (predicted >= 0) / predicted.shape[1]
    return LexicalTargets(tokens, probabilities)


def _center_by_kind(texts: EntityTexts) -> Tensor:
    """Center text vectors `(U + I, E)` of users and of items separately; zeros for entities without text."""
    vectors = texts.vectors.masked_fill(~texts.present.unsqueeze(1), torch.nan)
    kinds = vectors.split([texts.num_users, len(vectors) - texts.num_users])
    return torch.cat([center(kind) for kind in kinds]).nan_to_num()


def _starts(users: Tensor, num_users: int) -> Tensor:
    """Index of each user's first interaction, `(U,)`, given the sorted user ids of the interactions."""
    return torch.searchsorted(users.contiguous(), torch.arange(num_users, device=users.device))


def _mean_texts(item_texts: Tensor, item_ids: Tensor, starts: Tensor) -> tuple[Tensor, Tensor]:
    """Mean text vector of each user's items with text, `(B, E)`, and whether there are any, `(B,)`."""
    sums, counts = _sum_texts(item_texts, item_ids, starts)
    return sums / counts.clamp_min(1).unsqueeze(1), counts > 0


def _sum_texts(item_texts: Tensor, item_ids: Tensor, starts: Tensor) -> tuple[Tensor, Tensor]:
    sums = F.embedding_bag(item_ids, item_texts, starts, mode="sum")
    has_text = item_texts.any(1, keepdim=True).to(item_texts)
    return sums, F.embedding_bag(item_ids, has_text, starts, mode="sum").squeeze(1)


def _mean_texts_of_others(item_texts: Tensor, interactions: Tensor, num_users: int) -> tuple[Tensor, Tensor]:
    """Mean over an item's users of the mean text of their other items, `(I, E)`, and whether one exists, `(I,)`."""
    users, item_ids = interactions
    has_text = item_texts.any(1)
    sums, counts = _sum_texts(item_texts, item_ids, _starts(users, num_users))
    order = item_ids.argsort(stable=True)
    users, item_ids = users[order], item_ids[order]
    others = counts[users] - has_text[item_ids].to(counts)
    weights = torch.where(others > 0, 1 / others.clamp_min(1), 0.0)
    starts = _starts(item_ids, len(item_texts))
    ones = torch.ones_like(sums[:, :1])
    total = F.embedding_bag(users, sums, starts, mode="sum", per_sample_weights=weights)
    total = total - item_texts * F.embedding_bag(users, ones, starts, mode="sum", per_sample_weights=weights)
    count = F.embedding_bag(users, ones, starts, mode="sum", per_sample_weights=(weights > 0).to(ones)).squeeze(1)
    return total / count.clamp_min(1).unsqueeze(1), count > 0


def _concatenate(embeddings: Tensor, texts: Tensor) -> Tensor:
    """Normalise and concatenate embeddings and text vectors, `(N, D + E)`; zeros stay zeros."""
    return torch.cat([F.normalize(embeddings, dim=1), F.normalize(texts.to(embeddings), dim=1)], dim=1)


def _evenly_spaced(rows: Tensor) -> Tensor:
    """Select the rows that the regression would subsample, before its inputs are copied."""
    return rows[:: max(1, -(-len(rows) // MAX_POINTS))]
