"""Kernel ridge regression between embeddings and sentence vectors."""

import torch
import torch.nn.functional as F
from torch import Tensor


class KernelRidge:
    """Predicts values at unit vectors as `k(q, X) (k(X, X) + ridge I)^-1 Y`.

    `k(x, y) = exp(-||x - y||^2 / m)` over unit vectors, m being the mean squared distance of the known ones, so that
    the kernel suits vectors that crowd as well as those that are spread.

    Args:
        points: Points of known values `(N, D)`.
        values: Their values `(N, E)`.
        ridge: Ridge, in units of k(x, x) = 1.
        max_points: Known points that take part at most, evenly spaced ones; the cost grows with their cube.
    """

    def __init__(self, points: Tensor, values: Tensor, ridge: float = 0.3, max_points: int = 4096) -> None:
        step = -(-len(points) // max_points)
        self._points = F.normalize(points[::step], dim=1).double()
        self._spread = (2 - 2 * self._points.mean(0).square().sum()).clamp_min(1e-9)
        matrix = self._kernel(self._points)
        matrix.diagonal().add_(ridge)
        self._weights = torch.linalg.solve(matrix, values[::step].double())

    def predict(self, queries: Tensor) -> Tensor:
        """Values `(M, E)` at queries `(M, D)`."""
        tiles = F.normalize(queries, dim=1).double().split(1024)
        return torch.cat([self._kernel(tile) @ self._weights for tile in tiles]).to(queries.dtype)

    def _kernel(self, rows: Tensor) -> Tensor:
        return torch.exp((2 * rows @ self._points.T - 2) / self._spread)
