"""Full-ranking metrics: exact sums over top-k hits, bit-identical for any batch size and world size."""

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric, MetricCollection

_RESOLUTION = 2.0**33  # fixed-point steps per unit; the sum over up to 2^30 users fits into int64


class RankingMetric(Metric):
    """Mean over users of a value in [0, 1] that is computed from the hits among the top K items.

    Values are added as 64-bit fixed-point numbers: integer addition is associative, so the result does
    not depend on how users are distributed over batches and processes.

    Args:
        top_k: Number of ranked items to evaluate, K >= 1.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    def __init__(self, top_k: int, **kwargs: Any) -> None:  # noqa: ANN401
        super().__init__(**kwargs)
        self.top_k = top_k
        self.total: Tensor
        self.num_users: Tensor
        self.add_state("total", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("num_users", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, hits: Tensor, num_relevant: Tensor) -> None:
        """Add a batch of users.

        Args:
            hits: Whether the item at each rank is relevant, best first, `(B, K')` bool with K' >= top_k.
            num_relevant: Number of relevant items of each user, `(B,)`; users without any are ignored.
        """
        evaluated = num_relevant > 0
        values = self.per_user(hits[evaluated, : self.top_k], num_relevant[evaluated])
        # Not in place, as a validation before the fit leaves inference tensors, which cannot be modified.
        self.total = self.total + (values * _RESOLUTION).round().long().sum()
        self.num_users = self.num_users + evaluated.sum()

    def compute(self) -> Tensor:
        """Mean over users, a float64 scalar; 0 if no user has a relevant item."""
        return self.total.double() / _RESOLUTION / self.num_users.clamp_min(1)

    @abstractmethod
    def per_user(self, hits: Tensor, num_relevant: Tensor) -> Tensor:
        """Value of each user `(B,)` float64 from hits `(B, K)` and `num_relevant` `(B,)` > 0."""


class Recall(RankingMetric):
    """Share of a user's relevant items that are ranked in the top K."""

    def per_user(self, hits: Tensor, num_relevant: Tensor) -> Tensor:
        """Recall of each user; see the base class."""
        return hits.sum(1).double() / num_relevant


class NDCG(RankingMetric):
    """Normalised discounted cumulative gain with binary relevance.

    `DCG = sum over hits at rank r (from 1) of 1 / log2(r + 1)`, divided by the DCG of an ideal ranking of
    `min(K, num_relevant)` hits.

    Reference:
        Jarvelin & Kekalainen, "Cumulated gain-based evaluation of IR techniques", TOIS 2002.
    """

    def per_user(self, hits: Tensor, num_relevant: Tensor) -> Tensor:
        """See `RankingMetric`."""
        ranks = torch.arange(2, self.top_k + 2, device=hits.device, dtype=torch.float64)
        discount = ranks.log2().reciprocal()
        ideal = discount.cumsum(0)[num_relevant.clamp_max(self.top_k) - 1]
        return (hits * discount[: hits.shape[1]]).sum(1) / ideal


def ranking_metrics(top_k: list[int], prefix: str) -> MetricCollection:
    """Recall and NDCG at every K, with names such as `val/recall@20`.

    Args:
        top_k: Values of K.
        prefix: Prefix of the names, such as `val/`.
    """
    metrics: dict[str, Metric | MetricCollection] = {}
    for k in top_k:
        metrics[f"recall@{k}"] = Recall(k)
        metrics[f"ndcg@{k}"] = NDCG(k)
    # Compute groups would merge Recall@5 and Recall@10 for good if both are 0 on the first batch.
    return MetricCollection(metrics, prefix=prefix, compute_groups=False)


def per_user_values(metrics: MetricCollection, hits: Tensor, num_relevant: Tensor) -> dict[str, Tensor]:
    """Values of each metric by name for every user, `(B,)` float64 on the CPU; see `RankingMetric.update`."""
    values = {}
    for key, metric in metrics.items(keep_base=False):
        assert isinstance(metric, RankingMetric)
        values[str(key)] = metric.per_user(hits[:, : metric.top_k], num_relevant).cpu()
    return values
