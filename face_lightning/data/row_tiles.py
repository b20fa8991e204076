"""Batches of whole rows: users with all their items, then items with all their users."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from face_lightning.structures import RowBatch


class RowLoader:
    """Batches of all users, then all items, once per epoch, each of rows of similar length.

    Rows are sorted by length and cut into tiles; each rank gets its share of every tile. The loader can be resumed at
    any step.

    Args:
        train: Binary matrix `(U, I)` in CSR form.
        batch_size: Maximum number of interactions per batch and rank, including padding; a longer row is a batch of
            its own.
        rank: Index of this process.
        world_size: Number of processes.
    """

    def __init__(self, train: sp.csr_array, *, batch_size: int, rank: int = 0, world_size: int = 1) -> None:
        self._sides = [_Side.of(matrix) for matrix in (train, sp.csr_array(train.T.tocsr()))]
        self._tiles = [
            (side, tile) for side in self._sides for tile in _cut(side.indptr.diff(), batch_size, world_size)
        ]
        self._rank, self._world_size = rank, world_size
        self._first_step = self._next_step = 0

    def __len__(self) -> int:
        return len(self._tiles)

    def __iter__(self) -> Iterator[RowBatch]:
        first, self._first_step = self._first_step, 0
        for step, (side, tile) in enumerate(self._tiles[first:], first):
            self._next_step = step + 1
            yield side.batch(tile[self._rank :: self._world_size], of_users=side is self._sides[0])

    def state_dict(self) -> dict[str, int]:
        """Return the position in the current epoch, for resuming."""
        return {"next_step": self._next_step % len(self)}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Start the next iteration at the position of `state`."""
        self._first_step = self._next_step = state["next_step"]


class _Side(NamedTuple):
    """Rows in CSR form."""

    indptr: Tensor
    indices: Tensor

    @classmethod
    def of(cls, matrix: sp.csr_array) -> "_Side":
        return cls(*(torch.from_numpy(part.astype(np.int64)) for part in (matrix.indptr, matrix.indices)))

    def batch(self, row_ids: Tensor, of_users: bool) -> RowBatch:
        begins = self.indptr[row_ids]
        lengths = self.indptr[row_ids + 1] - begins
        positions = begins.unsqueeze(1) + torch.arange(int(lengths.max()) if len(lengths) else 0)
        return RowBatch(of_users, row_ids, self.indices[positions.clamp_max(len(self.indices) - 1)], lengths)


def _cut(lengths: Tensor, most: int, world_size: int) -> list[Tensor]:
    """Cut rows into tiles of row ids, longest rows first; each rank's share has at most `most` padded entries."""
    order = lengths.argsort(descending=True, stable=True)
    tiles = []
    while len(order):
        size = world_size * max(1, most // max(1, int(lengths[order[0]])))
        tiles.append(order[:size])
        order = order[size:]
    return tiles
