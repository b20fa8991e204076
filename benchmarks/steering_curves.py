"""Curves of `benchmarks.steering`: what an edit does to a topic, to other topics and to Recall@20, by its strength."""

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
    """What a way of steering does, for every strength, topic and user.

    Attributes:
        ndcg: NDCG@20 of the topic, `(G, N, B)`.
        recall: Recall@20 of the user's items, `(G, N, B)`.
        others: Mean absolute change of NDCG@20 of the other topics, each a mean over users, `(G, N)`.
    """

    def __init__(self, study: "Study", way: str, topics: list[str], sign: int) -> None:
        marked = torch.stack([study.of_topic(topic) for topic in topics])
        shape = len(STRENGTHS), len(topics), len(study.users)
        self.ndcg, self.recall, self.others = torch.zeros(shape), torch.zeros(shape), torch.zeros(shape[:2])
        plain = ndcg(study.ranked(), marked)
        for place, topic in enumerate(topics):
            relevance = study.relevance(way, topic)
            relevance = 1e3 * relevance if way == "tag filter" else standardized(relevance)
            for step, strength in enumerate(STRENGTHS):
                top = study.ranked(sign * relevance, strength)
                found = ndcg(top, marked)
                self.ndcg[step, place], self.recall[step, place] = found[place], study.recall(top)
                change = (found.mean(1) - plain.mean(1)).abs()
                change[place] = 0.0
                self.others[step, place] = change.sum() / max(1, len(topics) - 1)

    def rows(self) -> list[dict[str, float]]:
        """What every strength does, over all topics and users."""
        columns = self.ndcg.mean((1, 2)), self.recall.mean((1, 2)), self.others.mean(1)
        names = ("strength", "topic_ndcg@20", "test/recall@20", "others_change")
        rows = zip(STRENGTHS, *(column.tolist() for column in columns), strict=True)
        return [dict(zip(names, row, strict=True)) for row in rows]

    def at(self, share: float, topics: Tensor | None = None, users: Tensor | None = None) -> float:
        """NDCG@20 of topics where Recall@20 has fallen to a share of the plain ranking's.

        Args:
            share: That share.
            topics: How often each topic counts, `(N,)`; once if None.
            users: How often each user counts, `(B,)`; once if None.
        """
        topics = torch.ones(self.ndcg.shape[1]) if topics is None else topics
        users = torch.ones(self.ndcg.shape[2]) if users is None else users
        recalls, values = (
            topics @ (table @ users).T / (topics.sum() * users.sum()) for table in (self.recall, self.ndcg)
        )
        return interpolate(recalls.tolist(), values.tolist(), share)


def interpolate(recalls: list[float], values: list[float], share: float) -> float:
    """Value where recall, by growing strength, first falls to a share of the first recall; nan if it never does."""
    wanted = share * recalls[0]
    for high, low, before, after in zip(recalls, recalls[1:], values, values[1:], strict=False):
        if low <= wanted <= high:
            return before + (after - before) * (high - wanted) / max(high - low, 1e-9)
    return float("nan")


def bootstrap(runs: Sequence[tuple[Curves, Curves]], share: float, num_samples: int = 1000) -> tuple[float, float]:
    """Interval of 95 % of the difference between two ways at a share of Recall@20, a mean over runs.

    Topics, which are the same in all runs, and each run's users are drawn anew for every sample.
    """
    draws = torch.Generator().manual_seed(0)
    found = []
    for _ in range(num_samples):
        topics = _drawn(runs[0][0].ndcg.shape[1], draws)
        differences = []
        for one, other in runs:
            users = _drawn(one.ndcg.shape[2], draws)
            differences.append(one.at(share, topics, users) - other.at(share, topics, users))
        found.append(np.mean(differences))
    low, high = np.nanpercentile(found, [2.5, 97.5])
    return float(low), float(high)


def _drawn(number: int, draws: torch.Generator) -> Tensor:
    """How often each of some things is drawn when as many are drawn with replacement."""
    return torch.randint(number, (number,), generator=draws).bincount(minlength=number).float()


def standardized(values: Tensor) -> Tensor:
    """Values `(..., I)` with mean 0 and standard deviation 1 over items."""
    return (values - values.mean(-1, keepdim=True)) / values.std(-1, keepdim=True)
