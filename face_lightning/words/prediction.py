"""What clicks tell of texts that are missing: kernel ridge regression, and words of its prediction."""

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

_POOL_FACTOR = 2  # a predicted vector lies between texts and farther from any word: its words come from a larger pool


@dataclass(frozen=True)
class UserTexts:
    """Predicts centered text vectors of users from their embeddings and the texts of the items they interacted with.

    The input is two unit vectors side by side: the embedding, and the mean text of the items, zeros where none has a
    text. It learns from users and items alike, as both are described by the same things: an item is as a user of this
    item alone. Each text is relative to the mean text of its kind.

    Attributes:
        regression: Kernel ridge regression from inputs `(N, D + E)`.
        item_texts: Centered unit vectors of the items' texts `(I, E)`; zeros where there is none.
        center: Mean over users of their mean text, which is taken off, `(E,)`.
    """

    regression: KernelRidge
    item_texts: Tensor
    center: Tensor

    @classmethod
    def fit(cls, texts: EntityTexts, embeddings: Tensor, interactions: Tensor, ridge: float) -> Self | None:
        """Fit it on all users and items with a text; None where there is none.

        Args:
            texts: Texts.
            embeddings: Of all users and items, `(U + I, D)`.
            interactions: User ids and item ids of training, `(2, N)`, sorted by user.
            ridge: Ridge of the regression.
        """
        if not bool(texts.present.any()):
            return None
        centered, num_users = _centered(texts), texts.num_users
        users, item_ids = interactions
        means, known = _mean_texts(centered[num_users:], item_ids, _starts(users, num_users))
        middle = means[known].mean(0) if bool(known.any()) else torch.zeros_like(means[0])
        around = torch.cat([(means - middle) * known.unsqueeze(1), centered[num_users:]])
        rows = _evenly_spaced(texts.present.nonzero().squeeze(1))
        regression = KernelRidge.fit(_side_by_side(embeddings[rows], around[rows]), centered[rows], ridge)
        return cls(regression, centered[num_users:], middle)

    def predict(self, embeddings: Tensor, item_ids: Tensor, starts: Tensor) -> Tensor:
        """Text vectors `(B, E)` of users.

        Args:
            embeddings: `(B, D)`.
            item_ids: Items of all users, one after the other, `(N,)`.
            starts: Where each user's items begin, `(B,)`.
        """
        means, known = _mean_texts(self.item_texts, item_ids, starts)
        return self.regression.predict(_side_by_side(embeddings, (means - self.center) * known.unsqueeze(1)))


def predict_item_texts(
    texts: EntityTexts, embeddings: Tensor, interactions: Tensor, ridge: float, item_ids: Tensor
) -> Tensor | None:
    """Centered text vectors `(B, E)` of items, predicted from items with a text; None where there are none.

    The input is two unit vectors side by side: the embedding, and the mean text of the other items that the item's
    users interacted with.

    Args:
        texts: Texts.
        embeddings: Of all users and items, `(U + I, D)`.
        interactions: User ids and item ids of training, `(2, N)`, sorted by user.
        ridge: Ridge of the regression.
        item_ids: Items without a text, `(B,)`.
    """
    present = texts.present[texts.num_users :]
    if not bool(present.any()):
        return None
    of_items = _centered(texts)[texts.num_users :]
    means, known = _mean_texts_of_others(of_items, interactions, texts.num_users)
    fitted = known & present
    middle = means[fitted].mean(0) if bool(fitted.any()) else torch.zeros_like(means[0])
    inputs = _side_by_side(embeddings[texts.num_users :], (means - middle) * known.unsqueeze(1))
    rows = _evenly_spaced(present.nonzero().squeeze(1))
    return KernelRidge.fit(inputs[rows], of_items[rows], ridge).predict(inputs[item_ids])


def predicted_words(
    predicted: Tensor, word_vectors: Tensor, lemmas: Tensor, num_words: int, target_pool: int
) -> Tensor:
    """Words `(N, K)` that together lie nearest to predicted text vectors `(N, E)`, chosen as targets of texts are.

    Args:
        predicted: What a regression gave.
        word_vectors: Centered unit vectors of the vocabulary's words `(V, E)`.
        lemmas: Lemma of each word, `(V,)`.
        num_words: K.
        target_pool: Nearest words among which targets of a text are chosen.
    """
    return pursue(F.normalize(predicted, dim=1), word_vectors, num_words, _POOL_FACTOR * target_pool, lemmas)


def predict_targets(space: WordSpace, embeddings: Tensor, interactions: Tensor, ridge: float, pool: int) -> Tensor:
    """Target words `(M, W)` of the M entities without a text, in ascending order of ids; -1 where nothing is known.

    Args:
        space: Texts and words.
        embeddings: Of all users and items, `(U + I, D)`.
        interactions: User ids and item ids of training, `(2, N)`, sorted by user.
        ridge: Ridge of the regression.
        pool: Nearest words among which targets of a text are chosen.
    """
    texts, words, num_words = space.texts, space.word_vectors, space.targets.tokens.shape[1]
    missing = (~texts.present).nonzero().squeeze(1)
    users, items = missing[missing < texts.num_users], missing[missing >= texts.num_users] - texts.num_users
    predicted: list[Tensor | None] = [None, None]
    if len(users) and (regression := UserTexts.fit(texts, embeddings, interactions, ridge)) is not None:
        of_them = interactions[:, torch.isin(interactions[0], users)]
        starts = torch.searchsorted(of_them[0].contiguous(), users)
        predicted[0] = regression.predict(embeddings[users], of_them[1], starts)
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
    """Targets `(N, W)` in which the predicted ones `(M, W)` stand for the M entities that are not present."""
    tokens, probabilities = targets.tokens.clone(), targets.probabilities.clone()
    predicted = predicted.to(tokens)
    tokens[~present] = predicted.clamp_min(0)
    probabilities[~present] = (predicted >= 0) / predicted.shape[1]
    return LexicalTargets(tokens, probabilities)


def _centered(texts: EntityTexts) -> Tensor:
    """Text vectors `(U + I, E)`, each relative to the mean of its kind; zeros where there is no text."""
    vectors = texts.vectors.masked_fill(~texts.present.unsqueeze(1), torch.nan)
    kinds = vectors.split([texts.num_users, len(vectors) - texts.num_users])
    return torch.cat([center(kind) for kind in kinds]).nan_to_num()


def _starts(users: Tensor, num_users: int) -> Tensor:
    """Where each user's interactions begin, `(U,)`, given the user of each, ascending."""
    return torch.searchsorted(users.contiguous(), torch.arange(num_users, device=users.device))


def _mean_texts(item_texts: Tensor, item_ids: Tensor, starts: Tensor) -> tuple[Tensor, Tensor]:
    """Mean text of each user's items that have one, `(B, E)`, and whether there is any, `(B,)`."""
    sums, counts = _sum_texts(item_texts, item_ids, starts)
    return sums / counts.clamp_min(1).unsqueeze(1), counts > 0


def _sum_texts(item_texts: Tensor, item_ids: Tensor, starts: Tensor) -> tuple[Tensor, Tensor]:
    sums = F.embedding_bag(item_ids, item_texts, starts, mode="sum")
    has_text = item_texts.any(1, keepdim=True).to(item_texts)
    return sums, F.embedding_bag(item_ids, has_text, starts, mode="sum").squeeze(1)


def _mean_texts_of_others(item_texts: Tensor, interactions: Tensor, num_users: int) -> tuple[Tensor, Tensor]:
    """Mean over an item's users of the mean text of their other items, `(I, E)`, and whether there is any, `(I,)`."""
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


def _side_by_side(embeddings: Tensor, texts: Tensor) -> Tensor:
    """Unit vectors of both, `(N, D + E)`; zeros stay zeros."""
    return torch.cat([F.normalize(embeddings, dim=1), F.normalize(texts.to(embeddings), dim=1)], dim=1)


def _evenly_spaced(rows: Tensor) -> Tensor:
    """As many of these rows as the regression would choose, without copies of all inputs."""
    return rows[:: max(1, -(-len(rows) // MAX_POINTS))]
