"""Centerd unit vectors: differences show where all vectors point nearly the same way."""

import torch.nn.functional as F
from torch import Tensor


def center(vectors: Tensor) -> Tensor:
    """Unit vectors `(N, E)` of differences from the mean; rows of missing texts are NaN, and stay so."""
    present = vectors.isfinite().all(dim=1)
    return F.normalize(vectors - vectors[present].mean(0), dim=1) if bool(present.any()) else vectors


def is_anisotropic(vectors: Tensor, limit: float = 0.7) -> bool:
    """Whether unit vectors `(N, E)` point nearly the same way: their mean pairwise similarity exceeds the limit.

    Missing texts, whose rows are NaN, do not count; fewer than two vectors are not anisotropic.

    Reference:
        Ethayarajh, "How Contextual are Contextualized Word Representations?", EMNLP 2019.
    """
    present = vectors[vectors.isfinite().all(dim=1)]
    if len(present) < 2:
        return False
    similarity = (len(present) * present.mean(0).square().sum() - 1) / (len(present) - 1)
    return bool(similarity > limit)
