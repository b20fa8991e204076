"""Steering by words: changes a user's scores towards some topics and away from others."""

from collections.abc import Sequence
from statistics import NormalDist
from typing import NamedTuple

import torch
from torch import Tensor

# Chosen on validation items and topics of MovieLens-100K and steam-vt.
_NUM_EXAMPLES = 20
_RIDGE = 10.0  # relative to the mean diagonal entry of the Gram matrix
_MIN_WEIGHT, _WEIGHT_DECREASE = 0.25, 2.0  # weight of the agreement learnt from the examples
_SHARPNESS = 1.0
_MAX_AGREEMENT = 8.0  # in standard deviations; the exponential of an outlier would outweigh everything else
_TINY = torch.finfo(torch.float32).tiny
_MIN_DEVIATION = 1e-6  # of a user's scores, so that words also steer a user to whom all items are alike
_NUM_ROWS = 2**16  # rows that are centered at once, to bound memory


class Topic(NamedTuple):
    """A word or phrase in terms of a run's items.

    Attributes:
        agreement: Agreement of each item with the word, standardised over items, `(I,)`.
        direction: Direction of the word in the embedding space, `(D,)`, scaled so that its inner products with the
            items have standard deviation 1.
    """

    agreement: Tensor
    direction: Tensor


class WordSteering:
    """Scores items for users with more of some words and less of others.

    The agreement of an item with a word has two parts. The first is the similarity of the item's text to the word. The
    second is learnt from embeddings: ridge regression separates the items whose texts are nearest to the word, the
    examples, from all others,

    `d = (X^T X + r I)^-1 X^T y`

    where the rows of `X` are the centered item embeddings and `y` is 1 for examples and 0 otherwise. It also finds
    items that interactions relate to the topic while their texts do not. Both parts are standardised over items, and
    so is their weighted sum `z`.

    The more clearly texts name the word, the less the second part counts: its weight is `1 - 2 e`, clamped to
    `[0.25, 1]`. Here `e` is the mean standardised similarity of the examples to the word, minus its expectation under
    a normal distribution of similarities.

    A user's scores gain a scaled `exp(z)`, where `z` is the standardised sum over the words in `more`, and lose that of
    the words in `less`. The exponential raises the few items that agree well and leaves the order of all others to the
    user, whereas a term linear in `z` would also reorder items that are off the topic.

    Reference:
        The examples are those of pseudo-relevance feedback: Rocchio, "Relevance Feedback in Information Retrieval",
        1971.

    Args:
        items: Embeddings of items `(I, D)`.
        meanings: Meanings of the items' texts, as centered unit vectors `(I, E)`.
    """

    def __init__(self, items: Tensor, meanings: Tensor) -> None:
        self._items, self._meanings = items, meanings.to(items)
        self._num_examples = min(_NUM_EXAMPLES, max(1, len(items) // 5))
        self._expected_similarity = _mean_of_largest(self._num_examples / max(2, len(items)))
        self._mean = items.mean(0)
        gram = torch.zeros(items.shape[1], items.shape[1], dtype=torch.float64)
        for rows in items.split(_NUM_ROWS):
            centered = rows - self._mean
            gram += (centered.T @ centered).double().cpu()
        ridge = _RIDGE * gram.diagonal().mean() * torch.eye(len(gram), dtype=torch.float64)
        self._inverse = torch.linalg.inv(gram + ridge).to(items)
        self._covariance = (gram / len(items)).to(items)

    def topic(self, meaning: Tensor) -> Topic:
        """The topic of a word or phrase whose meaning is a centered unit vector `(E,)`."""
        by_text = _standardized(torch.mv(self._meanings, meaning.to(self._meanings)))
        nearest = by_text.topk(self._num_examples)
        excess = float(nearest.values.mean()) - self._expected_similarity
        weight = min(1.0, max(_MIN_WEIGHT, 1 - _WEIGHT_DECREASE * excess))
        learnt = self._inverse @ (self._items[nearest.indices] - self._mean).sum(0)
        by_embedding = torch.mv(self._items, learnt)
        agreement = _standardized(by_text + weight * _standardized(by_embedding))
        return Topic(agreement, learnt / _deviation(by_embedding))

    def relevance(self, more: Sequence[Topic], less: Sequence[Topic]) -> Tensor:
        """Change of the items' scores for more of some topics and less of others, with standard deviation 1, `(I,)`."""
        gains = [_gain(topics) for topics in (more, less) if topics]
        total = gains[0] if not less else -gains[0] if not more else gains[0] - gains[1]
        return total / _deviation(total)

    def scores(self, user: Tensor, relevance: Tensor, strength: float) -> Tensor:
        """Interpolate between a user's scores and the relevance, scaled to the same standard deviation, `(I,)`.

        Args:
            user: Embedding `(D,)`.
            relevance: Result of `relevance`, `(I,)`.
            strength: Weight of the relevance between 0, where the scores do not change, and 1, where it alone counts.
        """
        scores = torch.mv(self._items, user)
        return torch.lerp(scores, _deviation(scores).clamp_min(_MIN_DEVIATION) * relevance, strength)

    def embedding(self, user: Tensor, more: Sequence[Topic], less: Sequence[Topic], strength: float) -> Tensor:
        """Interpolate between a user and the sum of the topics' directions, scaled as in `scores`, `(D,)`."""
        direction = torch.stack([topic.direction for topic in more] + [-topic.direction for topic in less]).sum(0)
        # Standard deviations over items of the inner products with both vectors.
        user_std, direction_std = ((self._covariance @ vector).dot(vector).sqrt() for vector in (user, direction))
        scale = user_std.nan_to_num().clamp_min(_MIN_DEVIATION) / direction_std.nan_to_num().clamp_min(_TINY)
        return torch.lerp(user, scale * direction, strength)


def _gain(topics: Sequence[Topic]) -> Tensor:
    """Centered exponential of the standardised sum of the topics' agreements, `(I,)`."""
    agreement = _standardized(torch.stack([topic.agreement for topic in topics]).sum(0))
    gain = torch.exp(_SHARPNESS * agreement.clamp_max(_MAX_AGREEMENT))
    return gain - gain.mean()


def _standardized(values: Tensor) -> Tensor:
    return (values - values.mean()) / _deviation(values)


def _deviation(values: Tensor) -> Tensor:
    """Standard deviation over items."""
    return values.std(correction=0).clamp_min(_TINY)


def _mean_of_largest(share: float) -> float:
    """Mean of a standard normal variable above its `1 - share` quantile."""
    normal = NormalDist()
    return normal.pdf(normal.inv_cdf(1 - share)) / share
