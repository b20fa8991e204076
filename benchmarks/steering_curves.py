"""Curves of `benchmarks.steering`: effect of an edit on a topic, on other topics and on Recall@20, by its strength."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from benchmarks.steering import Study

STRENGTHS = (0.0, 0.05, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8)
_DISCOUNTS = 1 / torch.log2(torch.arange(20) + 2.0)


def ndcg(top: Tensor, marked: Tensor) -> Tensor:
    """NDCG@20 of marked items `(N, I)`, of each of N topics, in rankings `(B, 20)`: `(N, B)`."""
    ideal = _DISCOUNTS.cumsum(0)[marked.sum(1).clamp(1, 20) - 1]
    return (marked[:, top].float() @ _DISCOUNTS) / ideal[:, None]


class Curves:
    """Effect of a way of steering for each strength, topic and user.

    Args:
        study: Users, items and topics.
        way: Way of steering.
        topics: N topics.
        sign: 1 for more of each topic, -1 for less.
        strengths: G strengths, of which the first is 0.

    Attributes:
        ndcg: NDCG@20 of the topic, `(G, N, B)`.
        recall: Recall@20 of the user's items, `(G, N, B)`.
        others: Mean absolute change of NDCG@20 of the other topics, each a mean over users, `(G, N)`.
    """

    def __init__(
        self, study: "Study", way: str, topics: list[str], sign: int, strengths: Sequence[float] = STRENGTHS
    ) -> None:
        self.strengths = strengths
        marked = torch.stack([study.of_topic(topic) for topic in topics])
        shape = len(strengths), len(topics), len(study.users)
        self.ndcg, self.recall, self.others = torch.zeros(shape), torch.zeros(shape), torch.zeros(shape[:2])
        plain = ndcg(study.ranked(), marked)
        self.ndcg[0], self.recall[0] = plain, study.recall(study.ranked())
        for place, topic in enumerate(topics):
            relevance = study.relevance(way, topic)
            relevance = 1e3 * relevance if way == "tag filter" else standardized(relevance)
            for step, strength in enumerate(strengths[1:], start=1):
                top = study.ranked(sign * relevance, strength)
                found = ndcg(top, marked)
                self.ndcg[step, place], self.recall[step, place] = found[place], study.recall(top)
                change = (found.mean(1) - plain.mean(1)).abs()
                change[place] = 0.0
                self.others[step, place] = change.sum() / max(1, len(topics) - 1)

    def rows(self) -> list[dict[str, float]]:
        """Effect of each strength, a mean over topics and users."""
        columns = self.ndcg.mean((1, 2)), self.recall.mean((1, 2)), self.others.mean(1)
        names = ("strength", "topic_ndcg@20", "test/recall@20", "others_change")
        rows = zip(self.strengths, *(column.tolist() for column in columns), strict=True)
        return [dict(zip(names, row, strict=True)) for row in rows]

    def at(self, share: float) -> float:
        """NDCG@20 of topics at the strength that leaves a share of Recall@20."""
        ones = torch.ones(1, self.ndcg.shape[1]), torch.ones(1, self.ndcg.shape[2])
        return float(self.of_samples(share, *ones))

    def of_samples(self, share: float, topics: Tensor, users: Tensor) -> Tensor:
        """Value of `at` for each of S bootstrap samples, `(S,)`.

        Args:
            share: Share of Recall@20.
            topics: Weights of topics, `(S, N)`.
            users: Weights of users, `(S, B)`.
        """
        scale = topics.sum(1) * users.sum(1)
        recalls, values = (
            torch.stack([((topics @ step) * users).sum(1) / scale for step in table], 1).tolist()
            for table in (self.recall, self.ndcg)
        )
        return torch.tensor([interpolate(*sample, share) for sample in zip(recalls, values, strict=True)])


def interpolate(recalls: list[float], values: list[float], share: float) -> float:
    """Value at which recall, with growing strength, first falls to a share of its start; nan if it never does."""
    wanted = share * recalls[0]
    for high, low, before, after in zip(recalls, recalls[1:], values, values[1:], strict=False):
        if low <= wanted <= high:
            return before + (after - before) * (high - wanted) / max(high - low, 1e-9)
    return float("nan")


def bootstrap(runs: Sequence[tuple[Curves, Curves]], share: float, num_samples: int = 1000) -> tuple[float, float]:
    """95 % interval of the difference between two ways at a share of Recall@20, a mean over runs.

    Each sample draws the topics, which are common to all runs, and the users of each run.
    """
    draws = torch.Generator().manual_seed(0)
    _, num_topics, num_users = runs[0][0].ndcg.shape
    topics = _drawn(num_samples, num_topics, draws)
    differences = torch.zeros(num_samples)
    for one, other in runs:
        users = _drawn(num_samples, num_users, draws)
        differences += one.of_samples(share, topics, users) - other.of_samples(share, topics, users)
    low, high = np.nanpercentile((differences / len(runs)).numpy(), [2.5, 97.5])
    return float(low), float(high)


def _drawn(num_samples: int, number: int, draws: torch.Generator) -> Tensor:
    """Counts of draws with replacement, `(S, number)`."""
    drawn = torch.randint(number, (num_samples, number), generator=draws)
    return torch.zeros(num_samples, number).scatter_add_(1, drawn, torch.ones(drawn.shape))


def standardized(values: Tensor) -> Tensor:
    """Standardise values `(..., I)` over items."""
    return (values - values.mean(-1, keepdim=True)) / values.std(-1, keepdim=True)
