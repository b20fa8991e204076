"""Weighted squares: the objective of implicit ALS over all user-item pairs, at the cost of the observed ones."""

import math
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from face_lightning.errors import check_range
from face_lightning.graph import InteractionGraph
from face_lightning.losses.ranking_loss import RankingLoss
from face_lightning.search_space import Between, SearchSpace
from face_lightning.structures import Embeddings, TrainingBatch


class WeightedSquares(RankingLoss):
    """Implicit ALS: squared error of observed pairs to their targets, and of all pairs to 0 with a small weight.

    `L = (1/N) [ sum over observed (s - t_i)^2 + w sum over all s^2 + sum_u l_u ||e_u||^2 + sum_i l_i ||e_i||^2 ]`

    The sum over all `U x I` pairs is computed exactly from the Gram matrices of both sides as `tr(G_users G_items)`;
    the first sum is estimated from the pairs of the batch. See `regularization_of_rows` for `l_u` and `l_i`, and
    `targets_of_items` for the targets `t_i`, 1 by default.

    Reference:
        Hu, Koren & Volinsky, "Collaborative Filtering for Implicit Feedback Datasets", ICDM 2008; as a loss for any
        model: Krichene et al., "Efficient Training on Very Large Corpora via Gramian Estimation", ICLR 2019.

    Args:
        unobserved_weight: w; `default_unobserved_weight` if null.
        regularization: l; 0 leaves regularisation to the stage's `l2_weight`.
        frequency_power: p of `regularization_of_rows`.
        popularity_discount: d of `targets_of_items`.

    Raises:
        ConfigurationError: If a number is out of range.
    """

    name: ClassVar[str] = "weighted_squares"
    search_space: ClassVar[SearchSpace] = {"unobserved_weight": Between(1e-3, 0.3)}

    def __init__(
        self,
        unobserved_weight: float | None = None,
        regularization: float = 0.0,
        frequency_power: float = 0.5,
        popularity_discount: float = 0.0,
    ) -> None:
        super().__init__()
        if unobserved_weight is not None:
            check_range("unobserved_weight", unobserved_weight, least=0, usual="0.01, or null,")
        check_range("regularization", regularization, least=0, usual="0 to 10")
        check_range("frequency_power", frequency_power, least=0, most=1, usual="0.5")
        check_range("popularity_discount", popularity_discount, least=0, most=1, usual="0 to 0.2")
        self.unobserved_weight = unobserved_weight
        self.regularization = regularization
        self.frequency_power = frequency_power
        self.popularity_discount = popularity_discount
        self._cached: tuple[InteractionGraph, float, Embeddings, Tensor] | None = None

    def forward(self, batch: TrainingBatch, embeddings: Embeddings, graph: InteractionGraph) -> Tensor:
        """See `RankingLoss`."""
        users = F.embedding(batch.user_ids, embeddings.users)
        items = F.embedding(batch.positive_ids, embeddings.items)
        weight, rows, targets = self._weights(graph)
        observed = ((users * items).sum(-1) - targets[batch.positive_ids]).square().mean()
        others = weight * sum_of_squares(embeddings)
        if self.regularization:
            others = others + regularization_term(embeddings, rows)
        return observed + others / graph.num_interactions

    def _weights(self, graph: InteractionGraph) -> tuple[float, Embeddings, Tensor]:
        """Return the weight of unobserved pairs, the regularisation of each row and the target of each item."""
        if self._cached is None or self._cached[0] is not graph:
            sizes = graph.num_interactions, graph.num_users, graph.num_items
            weight = default_unobserved_weight(*sizes) if self.unobserved_weight is None else self.unobserved_weight
            rows = regularization_of_rows(graph, weight, self.regularization, self.frequency_power)
            frequencies = torch.bincount(graph.edge_index[1], minlength=graph.num_items)
            self._cached = graph, weight, rows, targets_of_items(frequencies, self.popularity_discount)
        return self._cached[1:]


def default_unobserved_weight(num_interactions: int, num_users: int, num_items: int) -> float:
    """Return `0.2 * sqrt(density)`, since dense data need a larger weight than sparse data.

    With this weight the same regularisation path works on sparse and dense data (`benchmarks.transfer`).
    """
    return 0.2 * math.sqrt(num_interactions / (num_users * num_items))


def regularization_of_rows(
    graph: InteractionGraph, unobserved_weight: float, regularization: float, frequency_power: float
) -> Embeddings:
    """Compute the weight of the squared norm of each user `(U,)` and each item `(I,)`.

    `l_u = l (f_u / mean f)^p` with `f_u = n_u + w I`, where `n_u` is the number of the user's interactions and the
    mean is over all users; likewise for items.

    Reference:
        Rendle et al., "Revisiting the Performance of iALS on Item Recommendation Benchmarks", RecSys 2022.

    Note:
        Rendle et al. do not divide by the mean. It only rescales `l`, but without it a change of `p` or `w` changes
        the best `l` by orders of magnitude.

    Args:
        graph: Graph of all training interactions.
        unobserved_weight: w.
        regularization: l.
        frequency_power: p.
    """
    sizes = graph.num_users, graph.num_items
    rows = []
    for ids, size, others in zip(graph.edge_index, sizes, reversed(sizes), strict=True):
        frequencies = torch.bincount(ids, minlength=size) + unobserved_weight * others
        rows.append(regularization * (frequencies / frequencies.mean()) ** frequency_power)
    return Embeddings(*rows)


def targets_of_items(frequencies: Tensor, popularity_discount: float) -> Tensor:
    """Compute the target score of each item's observed pairs, `n^-d` divided by its mean: lower for popular items.

    This discounts popular items in the scores and also in the loss: the squared relative error of an item has the
    weight `n^-2d`.

    Reference:
        Item weights that decrease with a power of popularity: Steck, "Item Popularity and Recommendation Accuracy",
        RecSys 2011.

    Args:
        frequencies: Number of training interactions of each item, n; `(I,)`. 0 is treated as 1.
        popularity_discount: d; 0 sets all targets to 1.

    Returns:
        Targets `(I,)` with mean 1.
    """
    discounted = frequencies.clamp_min(1).float() ** -popularity_discount
    return discounted / discounted.mean()


def regularization_term(embeddings: Embeddings, regularization: Embeddings) -> Tensor:
    """Weighted sum of the squared norms of all rows, a scalar."""
    return torch.stack(
        [
            weights.to(table.dtype) @ table.square().sum(1)
            for weights, table in zip(regularization, embeddings, strict=True)
        ]
    ).sum()


def sum_of_squares(embeddings: Embeddings) -> Tensor:
    """Sum of the squared scores of all pairs, a scalar."""
    with torch.autocast(embeddings.users.device.type, enabled=False):
        users, items = (table if table.dtype == torch.float64 else table.float() for table in embeddings)
        return ((users.T @ users) * (items.T @ items)).sum()
