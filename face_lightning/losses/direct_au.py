"""DirectAU: alignment of observed pairs and uniformity of users and items, without negatives."""

import math
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from face_lightning.errors import check_range
from face_lightning.graph import InteractionGraph
from face_lightning.losses.contrastive import unit_vectors
from face_lightning.losses.ranking_loss import RankingLoss
from face_lightning.search_space import Between, SearchSpace
from face_lightning.structures import Embeddings, TrainingBatch


class DirectAU(RankingLoss):
    """Alignment and uniformity losses on the unit vectors x of users and y of items.

    `L = mean ||x_u - y_i||^2 + g/2 [ log mean exp(-2 ||x_u - x_v||^2) + log mean exp(-2 ||y_i - y_j||^2) ]`, where the
    first mean is over observed pairs, and the others are over all pairs of different users and of different items in
    the batch.

    Reference:
        Wang et al., "Towards Representation Alignment and Uniformity in Collaborative Filtering", KDD 2022.

    Note:
        In the authors' code a user or item occurs in the uniformity term once for each of its pairs, and is compared
        with its own copies; here each counts once. Ranking uses dot products, as in their code.

    Args:
        uniformity_weight: g.

    Raises:
        ConfigurationError: If the weight is negative.
    """

    name: ClassVar[str] = "direct_au"
    search_space: ClassVar[SearchSpace] = {"uniformity_weight": Between(0.1, 5.0)}

    def __init__(self, uniformity_weight: float = 1.0) -> None:
        super().__init__()
        check_range("uniformity_weight", uniformity_weight, least=0, usual="0.2 to 2")
        self.uniformity_weight = uniformity_weight

    def forward(self, batch: TrainingBatch, embeddings: Embeddings, graph: InteractionGraph) -> Tensor:
        """See `RankingLoss`; the graph is not used."""
        del graph
        sides, uniformities = [], []
        for ids, table in zip((batch.user_ids, batch.positive_ids), embeddings, strict=True):
            unique_ids, rows = ids.unique(return_inverse=True)
            vectors = unit_vectors(F.embedding(unique_ids, table))
            sides.append(F.embedding(rows, vectors))
            uniformities.append(_uniformity(vectors))
        alignment = (sides[0] - sides[1]).square().sum(1).mean()
        return alignment + self.uniformity_weight * (uniformities[0] + uniformities[1]) / 2


def _uniformity(vectors: Tensor) -> Tensor:
    """`log mean exp(-2 ||x - y||^2)` over pairs of different rows of unit vectors `(N, D)`; 0 if there are none."""
    if len(vectors) < 2:
        return 0 * vectors.sum()
    exponents = (4 * (vectors @ vectors.T - 1)).fill_diagonal_(-torch.inf)
    return exponents.flatten().logsumexp(0) - math.log(len(vectors) * (len(vectors) - 1))
