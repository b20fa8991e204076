"""Popularity: a non-personalised baseline."""

from typing import Any

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor

from face_lightning.baselines.baseline import Baseline


class Popularity(Baseline):
    """Ranks items by their number of training interactions, identically for all users."""

    def fit(self, train: csr_array[Any]) -> None:
        """Count the interactions of each item."""
        self._counts = torch.from_numpy(np.bincount(train.indices, minlength=train.shape[1])).float()

    def score(self, history: csr_array[Any]) -> Tensor:
        """Repeat the interaction counts of the items for each user."""
        return self._counts.repeat(history.shape[0], 1)
