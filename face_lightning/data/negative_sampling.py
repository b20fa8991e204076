"""Negative items of users: exact draws without rejection."""

import numpy as np
import scipy.sparse as sp
import torch
import torch.nn.functional as F
from torch import Tensor


class NegativeSampler:
    """Uniform sampling from the items that a user has not interacted with: exact, without rejection.

    The r-th missing item of a user with sorted items p_0 < p_1 < ... is r plus the number of p_j with
    `p_j - j <= r`, which one `searchsorted` over all users finds for a whole batch.

    Args:
        train: Binary matrix `(U, I)` in CSR form with sorted column indices.
    """

    def __init__(self, train: sp.csr_array) -> None:
        self.num_items = int(train.shape[1])
        self._start = torch.from_numpy(train.indptr.astype(np.int64))
        degrees = self._start.diff()
        users = torch.repeat_interleave(torch.arange(len(degrees)), degrees)
        rank_in_row = torch.arange(len(users)) - self._start[users]
        items = torch.from_numpy(train.indices.astype(np.int64))
        self._num_missing = self.num_items - degrees
        self._shifted = users * (self.num_items + 1) + items - rank_in_row

    def has_negatives(self, user_ids: Tensor) -> Tensor:
        """Return whether each user has any negative item, `(B,)` bool."""
        return self._num_missing[user_ids] > 0

    def sample(self, user_ids: Tensor, uniform: Tensor) -> Tensor:
        """Sample one negative item for each user.

        Args:
            user_ids: Users `(B,)`; each must have at least one negative item.
            uniform: Draws from [0, 1) `(B,)`, float64.

        Returns:
            Item ids `(B,)`.
        """
        missing = self._num_missing[user_ids]
        return self.missing_item(user_ids, (uniform * missing).long().clamp_max(missing - 1))

    def missing_item(self, user_ids: Tensor, rank: Tensor) -> Tensor:
        """Return the item of each user that is preceded by `rank` missing items, `(B,)`."""
        position = torch.searchsorted(self._shifted, user_ids * (self.num_items + 1) + rank, right=True)
        return rank + position - self._start[user_ids]


class PopularitySampler(NegativeSampler):
    """Exact sampling from the items that a user has not interacted with, in proportion to popularity^power.

    With integer weights, a draw r below the total weight of a user's missing items selects the first item x such that
    the missing items up to x weigh more than r; bisection finds it for a whole batch. Items without interactions have
    the minimum weight.

    Args:
        train: Binary matrix `(U, I)` in CSR form with sorted column indices.
        power: Exponent of the number of interactions; 0 is uniform, 1 proportional to popularity.
    """

    def __init__(self, train: sp.csr_array, power: float) -> None:
        super().__init__(train)
        counts = np.bincount(train.indices, minlength=self.num_items).astype(np.float64)
        weights = torch.from_numpy(np.maximum(1, np.round(2.0**16 * (counts / counts.max()) ** power)).astype(np.int64))
        self._up_to = F.pad(weights.cumsum(0), (1, 0))  # weight of the items below each index
        users = torch.repeat_interleave(torch.arange(train.shape[0]), self._start.diff())
        items = torch.from_numpy(train.indices.astype(np.int64))
        self._keys = users * self.num_items + items
        self._taken = F.pad(weights[items].cumsum(0), (1, 0))  # weight of the interactions before each index

    def sample(self, user_ids: Tensor, uniform: Tensor) -> Tensor:
        """See `NegativeSampler`."""
        total = self._missing_weight(user_ids, torch.full_like(user_ids, self.num_items))
        draw = (uniform * total).long().clamp_max(total - 1)
        low, high = torch.zeros_like(user_ids), torch.full_like(user_ids, self.num_items)
        for _ in range(self.num_items.bit_length()):  # the missing items below `low` weigh `draw` at most
            middle = (low + high) // 2
            below = self._missing_weight(user_ids, middle + 1) <= draw
            low, high = torch.where(below, middle + 1, low), torch.where(below, high, middle)
        return low

    def _missing_weight(self, user_ids: Tensor, item_ids: Tensor) -> Tensor:
        """Return the weight of each user's missing items below an item, `(B,)`."""
        begin = self._start[user_ids]
        end = torch.searchsorted(self._keys, user_ids * self.num_items + item_ids)
        return self._up_to[item_ids] - (self._taken[end] - self._taken[begin])
