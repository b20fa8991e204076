"""EASE^R: a linear autoencoder over items in closed form."""

from typing import Any, ClassVar

import torch
from scipy.sparse import csr_array
from torch import Tensor

from face_lightning.baselines.baseline import Baseline
from face_lightning.errors import ConfigurationError, check_range

_MATRICES = 3  # (I, I) in float32, held at once: Gram matrix or weights, factor, inverse


class EASE(Baseline):
    """Linear autoencoder with item-item weights `(I, I)` of zero diagonal, fitted in closed form.

    `B = I - P diag(P)^-1` with `P = (X^T X + l2 I)^-1`

    Reference:
        Steck, "Embarrassingly Shallow Autoencoders for Sparse Data", WWW 2019.

    Args:
        l2: Weight of the squared norm of B, > 0.
        memory_gib: Memory limit of fitting, which needs 12 bytes per pair of items.

    Raises:
        ConfigurationError: If `l2` is not positive.
    """

    grid: ClassVar = [{"l2": l2} for l2 in (50.0, 200.0, 500.0, 1000.0, 3000.0)]

    def __init__(self, l2: float = 500.0, memory_gib: float = 8.0) -> None:
        check_range("l2", l2, above=0, usual="500")
        self.l2 = l2
        self.memory_gib = memory_gib

    def fit(self, train: csr_array[Any]) -> None:
        """Invert the regularised Gram matrix of the items.

        Raises:
            ConfigurationError: If this needs more than `memory_gib`.
        """
        num_items = train.shape[1]
        needed = _MATRICES * 4 * num_items**2 / 2**30
        if needed > self.memory_gib:
            raise ConfigurationError(
                f"memory_gib: expected at least {needed:.1f} for EASE on {num_items:,} items, got {self.memory_gib:g}; "
                "raise it if there is enough memory, or skip EASE"
            )
        gram = torch.from_numpy((train.T @ train).toarray()).float()
        gram.diagonal().add_(self.l2)
        precision = torch.cholesky_inverse(torch.linalg.cholesky(gram))
        del gram
        self._weights = precision.div_(-precision.diagonal().clone())
        self._weights.fill_diagonal_(0)

    def score(self, history: csr_array[Any]) -> Tensor:
        """Compute `X B` for the users' interactions X."""
        return torch.from_numpy(history @ self._weights.numpy())
