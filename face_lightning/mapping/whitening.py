"""Whitening: of word vectors and token embeddings, and of a backbone's embeddings for the mapper."""

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from face_lightning.errors import ConfigurationError


def whiten(token_embeddings: Tensor, dim: int, power: float = 1.0) -> Tensor:
    """Turn token embeddings into well-spread unit vectors.

    The common mean is taken away, the `dim` leading principal directions are scaled to equal variance, and
    rows are brought to unit length. Computed in float64 with a fixed sign, so that it is the same
    everywhere: the largest component of each direction is positive.

    Args:
        token_embeddings: `(V, T)`.
        dim: Number of directions to keep.
        power: Directions are divided by their standard deviation to this power; 0.5 is half a whitening, after which
            directions of large variance still count more.

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
    # Directions in which nothing varies hold rounding errors only: they stay zero.
    varied = variances > variances[0] * 1e-12
    scales = torch.where(varied, variances.clamp_min(torch.finfo(torch.float64).tiny) ** (-power / 2), 0.0)
    return F.normalize(centered @ (directions * scales), dim=1).float()


class InputWhitening(nn.Module):
    """Centers embeddings and scales their principal directions to equal variance, as measured once.

    Embeddings of graph backbones lie near a common mean and vary along a few directions; what
    distinguishes entities lies in the others, too faint for a mapper to read. `y = (x - mean) C^(-1/2)` with
    `C = covariance + ridge * mean variance * identity` (ZCA: the rotation-free whitening). Until it is
    fitted it is the identity.

    Reference:
        Kessy, Lewin & Strimmer, "Optimal Whitening and Decorrelation", The American Statistician 72(4), 2018.

    Args:
        dim: D.
        ridge: Share of the mean variance that is added to every direction, so that those that hold rounding
            errors only are not amplified.
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
        """Measure mean and covariance of embeddings that come in tiles `(N, D)`, in float64."""
        mean, moment = torch.zeros_like(self.mean).double(), torch.zeros_like(self.matrix).double()
        count = 0
        for tile in tiles:
            rows = tile.double()
            mean, moment, count = mean + rows.sum(0), moment + rows.T @ rows, count + len(rows)
        mean = mean / count
        variances, directions = torch.linalg.eigh(moment / count - mean.outer(mean))
        damped = variances.clamp_min(0) + self.ridge * variances.mean()
        scales = torch.where(damped > 0, damped.rsqrt(), 0.0)  # equal embeddings stay equal
        self.mean.copy_(mean)
        self.matrix.copy_(directions * scales @ directions.T)
        self.fitted.fill_(True)

    def forward(self, embeddings: Tensor) -> Tensor:
        """Whitened embeddings `(B, D)`, in float32 under any autocast."""
        with torch.autocast(embeddings.device.type, enabled=False):
            white: Tensor = (embeddings.float() - self.mean) @ self.matrix
        return white
