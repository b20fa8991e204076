"""Kernel ridge regression between embeddings and sentence vectors."""

from dataclasses import dataclass
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor

MAX_POINTS = 4096  # training points by default


@dataclass(frozen=True)
class KernelRidge:
    """Kernel ridge regression: `k(q, X) (k(X, X) + ridge I)^-1 Y`.

    `k(x, y) = exp(-||x - y||^2 / m)` over unit vectors, where m is the mean squared distance of the points X, so that
    the kernel adapts to how concentrated the embeddings are.

    Attributes:
        points: Unit points X, `(N, D)`.
        weights: `(k(X, X) + ridge I)^-1 Y`, `(N, E)`.
    """

    points: Tensor
    weights: Tensor

    @classmethod
    def fit(cls, known: Tensor, values: Tensor, ridge: float = 0.3, max_points: int = MAX_POINTS) -> Self:
        """Fit values `(N, E)` at points `(N, D)`, in float64.

        Args:
            known: Points, which are normalised to unit length.
            values: Values at the points.
            ridge: Ridge, relative to k(x, x) = 1.
            max_points: Maximum number of points; of more, evenly spaced ones are used, as the cost is cubic in N.
        """
        step = -(-len(known) // max_points)
        points = F.normalize(known[::step].double(), dim=1)
        matrix = cls(points, values)._kernel(points)
        matrix.diagonal().add_(ridge)
        return cls(points, torch.linalg.solve(matrix, values[::step].double()))

    def predict(self, queries: Tensor) -> Tensor:
        """Predict values `(M, E)` at queries `(M, D)`, in the dtype of the queries."""
        tiles = F.normalize(queries.to(self.points), dim=1).split(1024)
        return torch.cat([self._kernel(tile) @ self.weights for tile in tiles]).to(queries.dtype)

    def _kernel(self, rows: Tensor) -> Tensor:
        """Kernel matrix `(M, N)` between unit rows `(M, D)` and the points."""
        spread = (2 - 2 * self.points.mean(0).square().sum()).clamp_min(1e-9)  # mean squared distance of unit vectors
        return torch.exp((2 * rows @ self.points.T - 2) / spread)
