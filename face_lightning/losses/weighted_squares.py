"""Weighted squares: all pairs of users and items, observed or not, at the cost of the observed ones."""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from face_lightning.errors import check_range
from face_lightning.graph import InteractionGraph
from face_lightning.losses.ranking_loss import RankingLoss
from face_lightning.structures import Embeddings, TrainingBatch


class WeightedSquares(RankingLoss):
    """Observed pairs shall score 1, all pairs 0 with a small weight: the objective of implicit ALS.

    `L = (1/N) [ sum over observed (s - 1)^2 + w sum over all s^2 ]`

    The sum over all `U x I` pairs is exact: with the Gram matrices of both sides it is `tr(G_users G_items)`. The
    first sum is estimated from the batch's pairs.

    Reference:
        Hu, Koren & Volinsky, "Collaborative Filtering for Implicit Feedback Datasets", ICDM 2008; as a loss of any
        model: Krichene et al., "Efficient Training on Very Large Corpora via Gramian Estimation", ICLR 2019.

    Args:
        unobserved_weight: w.

    Raises:
        ConfigurationError: If `unobserved_weight` is negative.
    """

    name: ClassVar[str] = "weighted_squares"

    def __init__(self, unobserved_weight: float = 0.02) -> None:
        super().__init__()
        check_range("unobserved_weight", unobserved_weight, least=0, usual="0.02")
        self.unobserved_weight = unobserved_weight

    def forward(self, batch: TrainingBatch, embeddings: Embeddings, graph: InteractionGraph) -> Tensor:
        """See `RankingLoss`."""
        users = F.embedding(batch.user_ids, embeddings.users)
        items = F.embedding(batch.positive_ids, embeddings.items)
        observed = ((users * items).sum(-1) - 1).square().mean()
        return observed + self.unobserved_weight / graph.num_interactions * sum_of_squares(embeddings)


def sum_of_squares(embeddings: Embeddings) -> Tensor:
    """Sum of the squared scores of all pairs, a scalar."""
    with torch.autocast(embeddings.users.device.type, enabled=False):
        users, items = (table if table.dtype == torch.float64 else table.float() for table in embeddings)
        return ((users.T @ users) * (items.T @ items)).sum()
