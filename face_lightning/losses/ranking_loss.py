"""Base classes of ranking losses."""

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from face_lightning.graph import InteractionGraph
from face_lightning.losses.contrastive import unit_vectors
from face_lightning.search_space import SearchSpace
from face_lightning.structures import Embeddings, TrainingBatch


class RankingLoss(nn.Module, ABC):
    """Base class of losses that rank a user's items above others; one file each.

    Attributes:
        name: Key of the loss in logs and among the stage's weights.
        search_space: Arguments that `face tune` searches, with their ranges.
    """

    name: ClassVar[str]
    search_space: ClassVar[SearchSpace] = {}

    @abstractmethod
    def forward(self, batch: TrainingBatch, embeddings: Embeddings, graph: InteractionGraph) -> Tensor:
        """Return the mean loss of a batch, a scalar.

        Args:
            batch: Observed pairs of the step and their sampled negatives.
            embeddings: Final embeddings of all users `(U, D)` and items `(I, D)`.
            graph: Graph of all training interactions.
        """


class PairwiseLoss(RankingLoss):
    """Ranking loss that depends only on the scores of positive and negative items.

    Scores are sums over embedding columns, so processes can each hold a part of the columns (`column_parallel`).
    """

    def forward(self, batch: TrainingBatch, embeddings: Embeddings, graph: InteractionGraph) -> Tensor:
        """See `RankingLoss`; the graph is not used."""
        del graph
        users, positive, negative = batch.gather(embeddings)
        return self.compare((users * positive).sum(-1), (users * negative).sum(-1))

    @abstractmethod
    def compare(self, positive_scores: Tensor, negative_scores: Tensor) -> Tensor:
        """Return the mean loss of the scores of positive and negative pairs, `(B,)` each."""


def sample_unit_vectors(
    batch: TrainingBatch, embeddings: Embeddings, num_negatives: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Draw negatives uniformly and normalise the embeddings of a batch.

    Args:
        batch: Observed pairs.
        embeddings: Final embeddings.
        num_negatives: K; all pairs share the negatives.

    Returns:
        Unit vectors of the batch's users `(B, D)` and positive items `(B, D)`, and of the negatives `(K, D)`.
    """
    drawn = torch.randint(len(embeddings.items), (num_negatives,), device=batch.user_ids.device)
    users = unit_vectors(F.embedding(batch.user_ids, embeddings.users))
    positive = unit_vectors(F.embedding(batch.positive_ids, embeddings.items))
    return users, positive, unit_vectors(F.embedding(drawn, embeddings.items))
