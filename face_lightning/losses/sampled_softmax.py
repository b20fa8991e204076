"""Sampled softmax: cross-entropy with sampled negatives and logQ correction."""

import math
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from face_lightning.errors import check_range
from face_lightning.graph import InteractionGraph
from face_lightning.losses.contrastive import unit_vectors
from face_lightning.losses.ranking_loss import RankingLoss
from face_lightning.search_space import Between, SearchSpace
from face_lightning.structures import Embeddings, TrainingBatch


class SampledSoftmax(RankingLoss):
    """Cross-entropy of the observed item among all items, with a partition function estimated from a sample.

    `L = -mean log( exp(s+) / (exp(s+) + sum_j exp(s_j) / (K q_j)) )` over K items j drawn with probabilities q, without
    the observed item. Division by `K q_j` (the logQ correction) makes the sum an estimate of the sum over all items
    for any sampling distribution.

    Reference:
        Bengio & Senecal, "Adaptive Importance Sampling to Accelerate Training of a Neural Probabilistic Language
        Model", IEEE TNN 2008; items of the batch as negatives: Yi et al., "Sampling-Bias-Corrected Neural Modeling for
        Large Corpus Item Recommendations", RecSys 2019; cosine with a temperature: Wu et al., "On the Effectiveness of
        Sampled Softmax Loss for Item Recommendation", TOIS 2024.

    Args:
        negatives: "uniform" draws from all items, shared by all pairs of a batch; "batch" uses the items of the
            batch's other pairs, which follow the popularity distribution.
        num_negatives: K for "uniform".
        temperature: Divisor of the scores.
        cosine: Whether scores are cosines instead of dot products. Ranking uses dot products in either case.

    Raises:
        ConfigurationError: If `num_negatives` or `temperature` is not positive.
    """

    name: ClassVar[str] = "sampled_softmax"
    search_space: ClassVar[SearchSpace] = {"temperature": Between(0.05, 2.0)}

    def __init__(
        self,
        negatives: Literal["uniform", "batch"] = "uniform",
        num_negatives: int = 1024,
        temperature: float = 1.0,
        cosine: bool = False,
    ) -> None:
        super().__init__()
        check_range("num_negatives", num_negatives, least=1, usual="1024")
        check_range("temperature", temperature, above=0, usual="1, or 0.1 with cosines,")
        self.negatives = negatives
        self.num_negatives = num_negatives
        self.temperature = temperature
        self.cosine = cosine

    def forward(self, batch: TrainingBatch, embeddings: Embeddings, graph: InteractionGraph) -> Tensor:
        """See `RankingLoss`."""
        positive_ids = batch.positive_ids
        if self.negatives == "batch":
            drawn = positive_ids
            frequencies = graph.item_degrees()[drawn].to(embeddings.items.dtype)
            log_expected = (frequencies / graph.num_interactions * max(1, len(drawn) - 1)).log()
        else:
            drawn = torch.randint(len(embeddings.items), (self.num_negatives,), device=positive_ids.device)
            constant = math.log(self.num_negatives / len(embeddings.items))
            log_expected = torch.full_like(drawn, constant, dtype=embeddings.items.dtype)
        users = F.embedding(batch.user_ids, embeddings.users)
        positive, others = F.embedding(positive_ids, embeddings.items), F.embedding(drawn, embeddings.items)
        if self.cosine:
            users, positive, others = unit_vectors(users), unit_vectors(positive), unit_vectors(others)
        users = users / self.temperature
        logits = users @ others.T - log_expected
        logits = logits.masked_fill(drawn == positive_ids.unsqueeze(1), -torch.inf)
        agreement = (users * positive).sum(1, keepdim=True)
        return (torch.cat([agreement, logits], 1).logsumexp(1) - agreement.squeeze(1)).mean()
