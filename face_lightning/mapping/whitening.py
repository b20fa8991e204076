"""Whitening of token embeddings, word vectors and the mapper's input."""

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from face_lightning.errors import ConfigurationError


def whiten(token_embeddings: Tensor, dim: int, power: float = 1.0) -> Tensor:
    """Center vectors, whiten their leading principal directions, and scale rows to unit length.

    Computed in float64, with the largest component of each direction made positive, so that the result does not
    depend on the machine.

    Args:
        token_embeddings: `(V, T)`.
        dim: Number of principal directions to keep.
        power: Each direction is divided by its standard deviation to this power: 1 whitens fully; after 0.5, half
            whitening, directions of large variance still weigh more.

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
    centered = token_embeddings.double() - token_embeddings.double().mean(0)
    variances, directions = torch.linalg.eigh(centered.T @ centered / len(centered))
    variances, directions = variances.flip(0)[:dim], directions.flip(1)[:, :dim]
    largest = directions.gather(0, directions.abs().argmax(0, keepdim=True))
    directions = directions * torch.sign(largest)
    # Directions without variance contain only rounding errors; set them to zero.
    varied = variances > variances[0] * 1e-12
    scales = torch.where(varied, variances.clamp_min(torch.finfo(torch.float64).tiny) ** (-power / 2), 0.0)
    return F.normalize(centered @ (directions * scales), dim=1).float()


class InputWhitening(nn.Module):
    """Whitens embeddings with the mean and covariance of a fitted data set (ZCA); the identity until fitted.

    `y = (x - mean) C^(-1/2)` with `C = covariance + ridge * mean variance * identity`. Embeddings of graph backbones
    lie near a common mean and vary mostly along a few directions. Entities differ in the other directions, whose
    variance is too small for the mapper to learn from without whitening.

    Reference:
        Kessy, Lewin & Strimmer, "Optimal Whitening and Decorrelation", The American Statistician 72(4), 2018.

    Args:
        dim: D.
        ridge: Share of the mean variance that is added to every direction, so that directions with only rounding
            errors are not amplified.
    """

    def __init__(self, dim: int, ridge: float = 0.02) -> None:
        super().__init__()
        self.ridge = ridge
        self.mean: Tensor
        self.matrix: Tensor
        self.fitted: Tensor
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("matrix", torch.eye(dim))
        self.register_buffer("fitted", torch.tensor(False))

    @torch.no_grad()
    def fit(self, tiles: Iterable[Tensor]) -> None:
        """Compute mean and covariance of embeddings given in tiles `(N, D)`, in float64."""
        mean, moment = torch.zeros_like(self.mean).double(), torch.zeros_like(self.matrix).double()
        count = 0
        for tile in tiles:
            rows = tile.double()
            mean, moment, count = mean + rows.sum(0), moment + rows.T @ rows, count + len(rows)
        mean = mean / count
        variances, directions = torch.linalg.eigh(moment / count - mean.outer(mean))
        damped = variances.clamp_min(0) + self.ridge * variances.mean()
        scales = torch.where(damped > 0, damped.rsqrt(), 0.0)  # all variances are 0 if all embeddings are equal
        self.mean.copy_(mean)
        self.matrix.copy_(directions * scales @ directions.T)
        self.fitted.fill_(True)

    def forward(self, embeddings: Tensor) -> Tensor:
        """Whiten embeddings `(B, D)`, in float32 even under autocast."""
        with torch.autocast(embeddings.device.type, enabled=False):
            white: Tensor = (embeddings.float() - self.mean) @ self.matrix
        return white
