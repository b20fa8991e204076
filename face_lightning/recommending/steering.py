"""Steering by words: what is added to a user for more of a topic, or for less."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from face_lightning.recommending.catalogue import Catalogue

_NUM_EXAMPLES = 20  # these two were chosen on validation items of MovieLens-100K and steam-vt
_RIDGE = 10.0  # of the mean squared coordinate


class WordSteering:
    """Ranks items for users whose embeddings are edited by words.

    Items are represented by their embedding and by the meaning of their text side by side, `(D + E)`. The direction of
    a word agrees with both: its meaning, and the vector in the space of embeddings that tells the items whose texts lie
    nearest to it from all others, by least squares:

    `d = (X^T X + r I)^-1 X^T y`

    where the rows of `X` are the centered item embeddings and `y` marks these items. So clicks bring in items that are
    alike and whose texts do not say so. Both parts are scaled so that their inner products with all items have the same
    standard deviation, and the direction so that it is 1.

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
        self.catalogue = Catalogue(torch.cat([items, meanings.to(items)], dim=1))
        self._mean = items.mean(0)
        centered = items - self._mean
        gram = (centered.T @ centered).double().cpu()
        ridge = _RIDGE * gram.diagonal().mean() * torch.eye(self._dim, dtype=torch.float64)
        self._covariance = (gram / len(items)).to(items)
        self._inverse = torch.linalg.inv(gram + ridge).to(items)

    def direction(self, meaning: Tensor) -> Tensor:
        """Direction `(D + E,)` of a centered unit vector `(E,)`."""
        table = self.catalogue.table
        embeddings, meanings = table[:, : self._dim], table[:, self._dim :]
        relevance = meanings @ meaning.to(meanings)
        examples = embeddings[relevance.topk(self._num_examples).indices]
        learnt = self._inverse @ (examples - self._mean).sum(0)
        spread = self.spread(learnt.unsqueeze(0))
        both = torch.cat([learnt / spread, meaning.to(meanings) / relevance.std().clamp_min(1e-6)])
        return both / (table @ both).std().clamp_min(1e-6)

    def combine(self, more: Sequence[Tensor], less: Sequence[Tensor]) -> Tensor:
        """Direction `(D + E,)` towards some directions and away from others."""
        total = torch.stack([*more, *(-direction for direction in less)]).sum(0)
        return total / (self.catalogue.table @ total).std().clamp_min(1e-6)

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
        return torch.einsum("bd,de,be->b", embeddings, self._covariance, embeddings).clamp_min(1e-12).sqrt()
