"""Base class of baselines."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from scipy.sparse import csr_array
from torch import Tensor


class Baseline(ABC):
    """Base class of models that score items for users from their training interactions; one file each.

    A baseline is fitted in one call and scores a tile of users at a time, so that nothing of size `(U, I)` is ever
    allocated.
    """

    grid: ClassVar[Sequence[Mapping[str, Any]]] = ({},)
    """Grid of constructor arguments to select from on validation."""

    @abstractmethod
    def fit(self, train: csr_array[Any]) -> None:
        """Fit the training interactions `(U, I)`, a binary matrix in CSR form."""

    @abstractmethod
    def score(self, history: csr_array[Any]) -> Tensor:
        """Score all items, `(B, I)` float32, for users with the training interactions `history` `(B, I)`."""
