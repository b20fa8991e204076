"""Centering of sentence vectors, which separates vectors that all point in nearly the same direction."""

import torch.nn.functional as F
from torch import Tensor


def center(vectors: Tensor) -> Tensor:
    """Subtract the mean from vectors `(N, E)` and normalise; rows of NaN, missing texts, are ignored and kept."""
    present = vectors.isfinite().all(dim=1)
    return F.normalize(vectors - vectors[present].mean(0), dim=1) if bool(present.any()) else vectors


def is_anisotropic(vectors: Tensor, limit: float = 0.7) -> bool:
    """Whether the mean pairwise similarity of unit vectors `(N, E)` exceeds the limit.

    Rows of NaN, missing texts, are ignored; the result is False for fewer than two vectors.

    Reference:
        Ethayarajh, "How Contextual are Contextualized Word Representations?", EMNLP 2019.
    """
    present = vectors[vectors.isfinite().all(dim=1)]
    if len(present) < 2:
        return False
    similarity = (len(present) * present.mean(0).square().sum() - 1) / (len(present) - 1)
    return bool(similarity > limit)
