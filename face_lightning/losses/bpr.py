"""Ranking losses: what the scores of a batch ask of the embeddings."""

import torch.nn.functional as F
from torch import Tensor


def bayesian_personalized_ranking(positive_scores: Tensor, negative_scores: Tensor) -> Tensor:
    """Bayesian personalised ranking loss: mean of `-log sigmoid(s+ - s-)`.

    Reference:
        Rendle et al., "BPR: Bayesian Personalized Ranking from Implicit Feedback", UAI 2009.

    Args:
        positive_scores: Scores of observed pairs, `(B,)`.
        negative_scores: Scores of sampled pairs, `(B,)`.
    """
    return F.softplus(negative_scores - positive_scores).mean()
