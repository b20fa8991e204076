"""Bilateral softmax loss: separate temperatures for positive and negative items."""

import math
from typing import ClassVar

import torch
from torch import Tensor

from face_lightning.errors import check_range
from face_lightning.graph import InteractionGraph
from face_lightning.losses.ranking_loss import RankingLoss, sample_unit_vectors
from face_lightning.search_space import Between, SearchSpace
from face_lightning.structures import Embeddings, TrainingBatch


class BilateralSoftmax(RankingLoss):
    """BSL: sampled softmax that also aggregates a user's positive items by a log-mean-exp.

    `L = mean_u [ -(a / t) log mean_i exp(cos_ui / a) + log mean_j exp(cos_uj / t) ]` over the items i of user u in the
    batch and K uniformly drawn items j. The mean over users is weighted by their number of pairs. With a small `a`
    a user's best positive item dominates, which makes the loss robust to noisy interactions; as `a` goes to infinity
    all positive items weigh the same, and the loss equals `SampledSoftmax` with cosines up to constants.

    Reference:
        Wu et al., "BSL: Understanding and Improving Softmax Loss for Recommendation", ICDE 2024.

    Note:
        The loss is divided by t, so that its scale is that of other softmax losses. The authors' code uses one
        temperature in both exponentials and a power of the second mean instead of a second temperature. All pairs of
        a batch share the negatives.

    Args:
        num_negatives: K.
        temperature: Temperature of negative items, t.
        positive_temperature: Temperature of positive items, a. Without effect on users with one pair in the batch.

    Raises:
        ConfigurationError: If a number is not positive.
    """

    name: ClassVar[str] = "bilateral_softmax"
    search_space: ClassVar[SearchSpace] = {
        "temperature": Between(0.05, 0.5),
        "positive_temperature": Between(0.05, 2.0),
    }

    def __init__(self, num_negatives: int = 1024, temperature: float = 0.15, positive_temperature: float = 0.3) -> None:
        super().__init__()
        check_range("num_negatives", num_negatives, least=1, usual="1024")
        check_range("temperature", temperature, above=0, usual="0.15")
        check_range("positive_temperature", positive_temperature, above=0, usual="0.3")
        self.num_negatives = num_negatives
        self.temperature, self.positive_temperature = temperature, positive_temperature

    def forward(self, batch: TrainingBatch, embeddings: Embeddings, graph: InteractionGraph) -> Tensor:
        """See `RankingLoss`; the graph is not used."""
        del graph
        users, positive, others = sample_unit_vectors(batch, embeddings, self.num_negatives)
        agreement = (users * positive).sum(1) / self.positive_temperature
        observed = _log_mean_exp(agreement, batch.user_ids, len(embeddings.users))
        sampled = (users @ others.T / self.temperature).logsumexp(1) - math.log(self.num_negatives)
        return (sampled - observed * (self.positive_temperature / self.temperature)).mean()


def _log_mean_exp(values: Tensor, group_ids: Tensor, num_groups: int) -> Tensor:
    """`log mean exp` over the values `(B,)` of the same group, for each value."""
    peaks = values.new_full((num_groups,), -torch.inf).scatter_reduce(0, group_ids, values.detach(), "amax")
    own_peaks = peaks[group_ids]
    sums = values.new_zeros(num_groups).index_add(0, group_ids, (values - own_peaks).exp())
    counts = torch.bincount(group_ids, minlength=num_groups)
    return (sums[group_ids] / counts[group_ids]).log() + own_peaks
