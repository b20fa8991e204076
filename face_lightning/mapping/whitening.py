"""Whitening of token embeddings, so that every direction counts alike in a search."""

import torch
import torch.nn.functional as F
from torch import Tensor

from face_lightning.errors import ConfigurationError


def whiten(token_embeddings: Tensor, dim: int) -> Tensor:
    """Turn token embeddings into well-spread unit vectors.

    The common mean is taken away, the `dim` leading principal directions are scaled to equal variance, and
    rows are brought to unit length. Computed in float64 with a fixed sign, so that it is the same
    everywhere: the largest component of each direction is positive.

    Args:
        token_embeddings: `(V, T)`.
        dim: Number of directions to keep.

    Returns:
        `(V, dim)` in float32.

    Raises:
        ConfigurationError: If `dim` is not in 1..min(V, T).
    """
    limit = min(token_embeddings.shape)
    if not 1 <= dim <= limit:
        shape = tuple(token_embeddings.shape)
        raise ConfigurationError(
            f"dim: expected 1 to {limit} for a table of shape {shape}, got {dim}; take a smaller one"
        )
    centred = token_embeddings.double() - token_embeddings.double().mean(0)
    variances, directions = torch.linalg.eigh(centred.T @ centred / len(centred))
    variances, directions = variances.flip(0)[:dim], directions.flip(1)[:, :dim]
    largest = directions.gather(0, directions.abs().argmax(0, keepdim=True))
    directions = directions * torch.sign(largest)
    # Directions in which nothing varies hold rounding errors only: they stay zero.
    varied = variances > variances[0] * 1e-12
    scales = torch.where(varied, variances.clamp_min(torch.finfo(torch.float64).tiny).rsqrt(), 0.0)
    return F.normalize(centred @ (directions * scales), dim=1).float()
