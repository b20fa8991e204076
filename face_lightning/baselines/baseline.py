"""What every baseline provides."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from scipy.sparse import csr_array
from torch import Tensor


class Baseline(ABC):
    """Scores items for users from their training interactions alone.

    A baseline is one file. It is fitted in one call, and scores a tile of users at a time, so that nothing of
    size `(U, I)` is ever held.
    """

    grid: ClassVar[Sequence[Mapping[str, Any]]] = ({},)
    """Settings to choose from on validation, as arguments of the constructor."""

    @abstractmethod
    def fit(self, train: csr_array[Any]) -> None:
        """Learn from the training interactions `(U, I)`, a binary matrix in CSR form."""

    @abstractmethod
    def score(self, history: csr_array[Any]) -> Tensor:
        """Scores `(B, I)` of all items, float32, for users with the training interactions `history` `(B, I)`."""
