"""Cosine contrastive loss: maximise the cosine of observed pairs, and bound that of negatives by a margin."""

from typing import ClassVar

from torch import Tensor

from face_lightning.errors import check_range
from face_lightning.graph import InteractionGraph
from face_lightning.losses.ranking_loss import RankingLoss, sample_unit_vectors
from face_lightning.search_space import Between, SearchSpace
from face_lightning.structures import Embeddings, TrainingBatch


class CosineContrastive(RankingLoss):
    """CCL: `L = mean [ 1 - cos+ + (w / K) sum_j max(0, cos_j - m) ]` over K uniformly drawn items j.

    Reference:
        Mao et al., "SimpleX: A Simple and Strong Baseline for Collaborative Filtering", CIKM 2021.

    Note:
        All pairs of a batch share the negatives.

    Args:
        num_negatives: K.
        margin: Cosine m up to which negatives cost nothing.
        negative_weight: w.

    Raises:
        ConfigurationError: If a number is out of range.
    """

    name: ClassVar[str] = "cosine_contrastive"
    search_space: ClassVar[SearchSpace] = {
        "margin": Between(0.0, 0.9, log=False),
        "negative_weight": Between(1.0, 1000.0),  # hundreds on sparse data, 10 or less on MovieLens-100K
    }

    def __init__(self, num_negatives: int = 1024, margin: float = 0.4, negative_weight: float = 300.0) -> None:
        super().__init__()
        check_range("num_negatives", num_negatives, least=1, usual="1024")
        check_range("margin", margin, least=-1, most=1, usual="0.4")
        check_range("negative_weight", negative_weight, least=0, usual="10 on dense data, 300 on sparse data")
        self.num_negatives, self.margin, self.negative_weight = num_negatives, margin, negative_weight

    def forward(self, batch: TrainingBatch, embeddings: Embeddings, graph: InteractionGraph) -> Tensor:
        """See `RankingLoss`; the graph is not used."""
        del graph
        users, positive, others = sample_unit_vectors(batch, embeddings, self.num_negatives)
        excess = (users @ others.T - self.margin).relu().mean()
        return 1 - (users * positive).sum(1).mean() + self.negative_weight * excess
