"""Loss functions: tensors in, a scalar out. No module, no weight, no logging."""

import torch
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


def info_nce(
    queries: Tensor, keys: Tensor, temperature: float, mask: Tensor | None = None, symmetric: bool = False
) -> Tensor:
    """Contrast of row `n` of `queries` with row `n` of `keys` against all other rows.

    `L = -mean_n log( exp(q_n . k_n / t) / sum_m exp(q_n . k_m / t) )`

    Reference:
        van den Oord et al., "Representation Learning with Contrastive Predictive Coding", 2018.

    Args:
        queries: Unit vectors `(N, E)`.
        keys: Unit vectors `(N, E)`.
        temperature: t > 0.
        mask: Pairs `(N, N)` that must not count as negatives (True = left out), such as two rows of the
            same text. The diagonal is never left out.
        symmetric: Whether to average with the contrast of keys against queries.
    """
    logits = queries @ keys.T / temperature
    if mask is not None:
        eye = torch.eye(len(logits), dtype=torch.bool, device=logits.device)
        logits = logits.masked_fill(mask & ~eye, -torch.inf)
    target = torch.arange(len(logits), device=logits.device)
    loss = F.cross_entropy(logits, target)
    return (loss + F.cross_entropy(logits.T, target)) / 2 if symmetric else loss
