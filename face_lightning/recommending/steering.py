"""Steering by words: what is added to a user for more of a topic, or for less."""

from collections.abc import Sequence
from statistics import NormalDist

import torch
import torch.nn.functional as F
from torch import Tensor

from face_lightning.recommending.catalogue import Catalogue

# These four were chosen on validation items and topics of MovieLens-100K and steam-vt.
_NUM_EXAMPLES = 20
_RIDGE = 10.0  # of the mean squared coordinate
_LEAST_SHARE, _DECREASE = 0.25, 2.0  # of what is learnt from the examples
_NUM_ROWS = 2**16  # that are centered at once


class WordSteering:
    """Ranks items for users whose embeddings are edited by words.

    Items are represented by their embedding and by the meaning of their text side by side, `(D + E)`. The direction of
    a word agrees with both: its meaning, and the vector in the space of embeddings that tells the items whose texts lie
    nearest to it from all others, by least squares:

    `d = (X^T X + r I)^-1 X^T y`

    where the rows of `X` are the centered item embeddings and `y` marks these items. So clicks bring in items that are
    alike and whose texts do not say so. Both parts are scaled so that their inner products with all items have the same
    standard deviation, and the direction so that it is 1.

    What is learnt counts the less, the more clearly texts name the word: its part is multiplied by `1 - 2 e`, kept
    between 0.25 and 1, where `e` is by how much the mean similarity of the examples with the word, in standard
    deviations, exceeds that of as many largest ones of I normal deviates.

    Reference:
        The examples are those of pseudo-relevance feedback: Rocchio, "Relevance Feedback in Information Retrieval",
        1971.

    Args:
        items: Embeddings of items `(I, D)`.
        meanings: What the items' texts mean, centered unit vectors `(I, E)`.
    """

    def __init__(self, items: Tensor, meanings: Tensor) -> None:
        self._dim = items.shape[1]
        self._num_examples = min(_NUM_EXAMPLES, max(1, len(items) // 5))
        self._usual = _mean_of_largest(self._num_examples / max(2, len(items)))
        table = torch.cat([items, meanings.to(items)], dim=1)
        self.catalogue = Catalogue(table)
        self._mean = items.mean(0)
        scatter = _scatter(table)
        self._covariance = (scatter / max(1, len(items) - 1)).to(items)
        self._bias = max(1, len(items) - 1) / len(items)
        gram = scatter[: self._dim, : self._dim]
        ridge = _RIDGE * gram.diagonal().mean() * torch.eye(self._dim, dtype=torch.float64)
        self._inverse = torch.linalg.inv(gram + ridge).to(items)

    def direction(self, meaning: Tensor) -> Tensor:
        """Direction `(D + E,)` of a centered unit vector `(E,)`."""
        table = self.catalogue.table
        embeddings, meanings = table[:, : self._dim], table[:, self._dim :]
        relevance = meanings @ meaning.to(meanings)
        spread_of_texts = relevance.std().clamp_min(1e-6)
        nearest = relevance.topk(self._num_examples)
        excess = float((nearest.values.mean() - relevance.mean()) / spread_of_texts) - self._usual
        share = min(1.0, max(_LEAST_SHARE, 1 - _DECREASE * excess))
        examples = embeddings[nearest.indices]
        learnt = self._inverse @ (examples - self._mean).sum(0)
        spread = self.spread(learnt.unsqueeze(0))
        both = torch.cat([share * learnt / spread, meaning.to(meanings) / spread_of_texts])
        return both / self._deviation(both)

    def combine(self, more: Sequence[Tensor], less: Sequence[Tensor]) -> Tensor:
        """Direction `(D + E,)` towards some directions and away from others."""
        total = torch.stack([*more, *(-direction for direction in less)]).sum(0)
        return total / self._deviation(total)

    def edit(self, user: Tensor, direction: Tensor, strength: float) -> Tensor:
        """Blend `(D + E,)` of a user and a direction whose scores are as spread as the user's.

        Args:
            user: Embedding `(D,)`.
            direction: What `combine` gave.
            strength: Share of the direction: at 0 the user stays as is, and at 1 the direction decides alone.
        """
        query = (1 - strength) * F.pad(user, (0, len(direction) - len(user)))
        return query + strength * self.spread(user.unsqueeze(0)) * direction

    def spread(self, embeddings: Tensor) -> Tensor:
        """Standard deviation of the inner products of embeddings `(B, D)` with all items, `(B,)`."""
        covariance = self._bias * self._covariance[: self._dim, : self._dim]
        return ((embeddings @ covariance) * embeddings).sum(1).clamp_min(1e-12).sqrt()

    def _deviation(self, direction: Tensor) -> Tensor:
        """Standard deviation, with Bessel's correction, of the scores of a direction `(D + E,)`, without the scores."""
        return (self._covariance @ direction).dot(direction).clamp_min(1e-12).sqrt()


def _scatter(table: Tensor) -> Tensor:
    """Sum of the outer products of centered rows `(I, K)`, `(K, K)` in float64 on the CPU; some rows at a time."""
    mean = table.mean(0)
    scatter = torch.zeros(table.shape[1], table.shape[1], dtype=torch.float64)
    for rows in table.split(_NUM_ROWS):
        centered = rows - mean
        scatter += (centered.T @ centered).double().cpu()
    return scatter


def _mean_of_largest(share: float) -> float:
    """Mean of the largest values of the normal distribution that make up a share of it."""
    normal = NormalDist()
    return normal.pdf(normal.inv_cdf(1 - share)) / share
