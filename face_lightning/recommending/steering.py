"""Steering by words: what is added to a user's scores for more of a topic, or for less."""

from collections.abc import Sequence
from statistics import NormalDist
from typing import NamedTuple

import torch
from torch import Tensor

# Chosen on validation items and topics of MovieLens-100K and steam-vt.
_NUM_EXAMPLES = 20
_RIDGE = 10.0  # of the mean squared coordinate
_LEAST_SHARE, _DECREASE = 0.25, 2.0  # of what is learnt from the examples
_SHARPNESS = 1.0
_MOST = 8.0  # standard deviations that count, so that the exponential of an outlier does not decide alone
_TINY = torch.finfo(torch.float32).tiny
_LEAST_DEVIATION = 1e-6  # of a user's scores, so that words also steer a user to whom all items are alike
_NUM_ROWS = 2**16  # that are centered at once


class Topic(NamedTuple):
    """What a word means for a run's items.

    Attributes:
        agreement: How well each item agrees with the word, standardised over items, `(I,)`.
        direction: What the word is in the space of embeddings, `(D,)`; its inner products with items have the standard
            deviation 1.
    """

    agreement: Tensor
    direction: Tensor


class WordSteering:
    """Scores items for users with more of some words and less of others.

    An item agrees with a word in two ways: by the meaning of its text, and by its embedding. The latter is learnt from
    the items whose texts lie nearest to the word, by least squares that tells them from all others:

    `d = (X^T X + r I)^-1 X^T y`

    where the rows of `X` are the centered item embeddings and `y` marks these items. So clicks bring in items that are
    alike and whose texts do not say so. Both parts are standardised over items, and so is their weighted sum `z`.

    What is learnt counts the less, the more clearly texts name the word: its weight is `1 - 2 e`, kept between 0.25
    and 1, where `e` is by how much the mean similarity of the examples with the word, in standard deviations, exceeds
    that of as many largest ones of I normal deviates.

    A user's scores gain `exp(z)`, scaled, where `z` is the standardised sum over the words of which more is wanted,
    and lose that of the words of which less is wanted. The exponential raises the few items that agree well and leaves
    the order of all others to the user, where a term linear in `z` would also reorder items that are off the topic.

    Reference:
        The examples are those of pseudo-relevance feedback: Rocchio, "Relevance Feedback in Information Retrieval",
        1971.

    Args:
        items: Embeddings of items `(I, D)`.
        meanings: What the items' texts mean, centered unit vectors `(I, E)`.
    """

    def __init__(self, items: Tensor, meanings: Tensor) -> None:
        self._items, self._meanings = items, meanings.to(items)
        self._num_examples = min(_NUM_EXAMPLES, max(1, len(items) // 5))
        self._usual = _mean_of_largest(self._num_examples / max(2, len(items)))
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
        excess = float(nearest.values.mean()) - self._usual
        weight = min(1.0, max(_LEAST_SHARE, 1 - _DECREASE * excess))
        learnt = self._inverse @ (self._items[nearest.indices] - self._mean).sum(0)
        by_embedding = torch.mv(self._items, learnt)
        agreement = _standardized(by_text + weight * _standardized(by_embedding))
        return Topic(agreement, learnt / _deviation(by_embedding))

    def relevance(self, more: Sequence[Topic], less: Sequence[Topic]) -> Tensor:
        """What items gain by more of some topics and less of others, with standard deviation 1, `(I,)`."""
        gains = [_gain(topics) for topics in (more, less) if topics]
        total = gains[0] if not less else -gains[0] if not more else gains[0] - gains[1]
        return total / _deviation(total)

    def scores(self, user: Tensor, relevance: Tensor, strength: float) -> Tensor:
        """Blend `(I,)` of a user's scores and a relevance that is scaled to their standard deviation.

        Args:
            user: Embedding `(D,)`.
            relevance: What `relevance` gave.
            strength: Share of the relevance: at 0 the scores stay as they are, and at 1 it decides alone.
        """
        scores = torch.mv(self._items, user)
        return torch.lerp(scores, _deviation(scores).clamp_min(_LEAST_DEVIATION) * relevance, strength)

    def embedding(self, user: Tensor, more: Sequence[Topic], less: Sequence[Topic], strength: float) -> Tensor:
        """A user `(D,)` who is moved along the topics' directions, as far as the blend is from the scores."""
        direction = torch.stack([topic.direction for topic in more] + [-topic.direction for topic in less]).sum(0)
        of_user, of_direction = ((self._covariance @ vector).dot(vector).sqrt() for vector in (user, direction))
        scale = of_user.nan_to_num().clamp_min(_LEAST_DEVIATION) / of_direction.nan_to_num().clamp_min(_TINY)
        return torch.lerp(user, scale * direction, strength)


def _gain(topics: Sequence[Topic]) -> Tensor:
    """Exponential of the agreement with all of some topics, centered, `(I,)`."""
    agreement = _standardized(torch.stack([topic.agreement for topic in topics]).sum(0))
    gain = torch.exp(_SHARPNESS * agreement.clamp_max(_MOST))
    return gain - gain.mean()


def _standardized(values: Tensor) -> Tensor:
    return (values - values.mean()) / _deviation(values)


def _deviation(values: Tensor) -> Tensor:
    """Standard deviation over items."""
    return values.std(correction=0).clamp_min(_TINY)


def _mean_of_largest(share: float) -> float:
    """Mean of the largest values of the normal distribution that make up a share of it."""
    normal = NormalDist()
    return normal.pdf(normal.inv_cdf(1 - share)) / share
