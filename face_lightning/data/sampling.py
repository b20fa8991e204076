"""Batches from memory; every random draw is a function of (seed, epoch, step, rank), not of earlier draws."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from face_lightning.data.negative_sampling import NegativeSampler, PopularitySampler
from face_lightning.errors import DataError, check_range
from face_lightning.seeds import generator
from face_lightning.structures import EvaluationBatch, TrainingBatch


class ResumableLoader:
    """Loader of an epoch's steps, shared by several ranks, that can be resumed at any step.

    Args:
        num_steps: Steps of an epoch.
        seed: First counter of every draw.
        epoch: Returns the current epoch when an iteration starts.
        rank: Index of this process.
        world_size: Number of processes.
    """

    def __init__(self, num_steps: int, seed: int, epoch: Callable[[], int], rank: int, world_size: int) -> None:
        self._num_steps = num_steps
        self._seed, self._epoch = seed, epoch
        self._rank, self._world_size = rank, world_size
        self._first_step = 0
        self._next_step = 0

    def __len__(self) -> int:
        return self._num_steps

    def steps(self) -> Iterator[int]:
        """Yield the steps of the epoch, starting at the one to resume."""
        first, self._first_step = self._first_step, 0
        for step in range(first, self._num_steps):
            self._next_step = step + 1
            yield step

    def own(self, rows: Tensor) -> tuple[Tensor, float]:
        """Return this rank's part of rows that all ranks share, and its size relative to the mean over ranks.

        If there are fewer rows than ranks, a rank without rows processes another's with weight 0, because it has to
        take part in the step.
        """
        own = rows[self._rank :: self._world_size]
        share = len(own) * self._world_size / max(1, len(rows))
        return (own if len(own) else rows[-1:]).clone(), share

    def state_dict(self) -> dict[str, int]:
        """Return the position in the current epoch, for resuming."""
        return {"next_step": self._next_step % self._num_steps}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Start the next iteration at the position of `state`."""
        self._first_step = self._next_step = state["next_step"]


class EntityLoader(ResumableLoader):
    """Batches of entities without interactions: one pass over all users and items is an epoch.

    Entities are permuted in every epoch and cut into steps of equal size; each rank takes its own part of each.

    Args:
        num_entities: Users and items together, U + I.
        entities_per_step: Maximum number of entities per step and rank.
        seed: First counter of every draw.
        epoch: Returns the current epoch when an iteration starts.
        rank: Index of this process.
        world_size: Number of processes.

    Raises:
        ConfigurationError: If `entities_per_step` is not positive.
    """

    def __init__(
        self,
        num_entities: int,
        *,
        entities_per_step: int,
        seed: int = 0,
        epoch: Callable[[], int] = lambda: 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        check_range("entities_per_step", entities_per_step, least=1, usual="256")
        super().__init__(-(-num_entities // (entities_per_step * world_size)), seed, epoch, rank, world_size)
        self._num_entities = num_entities

    def __iter__(self) -> Iterator[TrainingBatch]:
        order = torch.randperm(self._num_entities, generator=generator(self._seed, 3, self._epoch()))
        parts = order.tensor_split(self._num_steps)
        none = torch.empty(0, dtype=torch.long)
        for step in self.steps():
            entity_ids, share = self.own(parts[step])
            yield TrainingBatch(none, none, none, entity_ids, entity_share=share)


class TrainingLoader(ResumableLoader):
    """Batches of interactions with negatives and of entities to map, for one epoch at a time.

    Interactions are permuted in every epoch and split into global batches; each rank takes its part of each, so that
    no pair is on two ranks. Negatives are drawn for the global batch as well: for the same global batch, any number of
    ranks trains on the same triples. Entities have permutations of their own: all users are visited before any is
    visited again, and likewise all items. The share of items in a step is their share of entities, and at least a
    quarter, because few items among many users would hardly be visited otherwise. The loader can be resumed at any
    step.

    Args:
        train: Binary matrix `(U, I)` in CSR form with sorted column indices.
        batch_size: Interactions per step and rank, B.
        entities_per_step: Maximum number of entities per step and rank, but at least one user and one item over all
            ranks; 0 for none.
        seed: First counter of every draw.
        epoch: Returns the current epoch when an iteration starts.
        rank: Index of this process.
        world_size: Number of processes.
        popularity_power: Exponent of popularity in the draw of negatives; 0 for uniform draws.
    """

    def __init__(
        self,
        train: sp.csr_array,
        *,
        batch_size: int,
        entities_per_step: int = 0,
        popularity_power: float = 0.0,
        seed: int = 0,
        epoch: Callable[[], int] = lambda: 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self._negatives = PopularitySampler(train, popularity_power) if popularity_power else NegativeSampler(train)
        users = torch.repeat_interleave(torch.arange(train.shape[0]), torch.from_numpy(np.diff(train.indptr)))
        usable = self._negatives.has_negatives(users)
        self._users = users[usable]
        self._items = torch.from_numpy(train.indices.astype(np.int64))[usable]
        if len(self._users) < world_size:
            raise DataError(
                f"train: expected at least {world_size} interactions of users with negative items, one per process, "
                f"got {len(self._users)}; check the interactions, or use fewer processes"
            )
        self._global_batch = batch_size * world_size
        full, rest = divmod(len(self._users), self._global_batch)
        # A remainder with less than one pair per rank is dropped.
        super().__init__(full + (rest >= world_size), seed, epoch, rank, world_size)
        self._rounds = _entity_rounds(*train.shape, entities_per_step * world_size, seed)

    def __iter__(self) -> Iterator[TrainingBatch]:
        epoch = self._epoch()
        order = torch.randperm(len(self._users), generator=generator(self._seed, 0, epoch))
        for step in self.steps():
            begin = step * self._global_batch
            rows = order[begin : begin + self._global_batch]
            draws = torch.rand(len(rows), generator=generator(self._seed, 1, epoch, step, 0), dtype=torch.float64)
            picked, pair_share = self.own(rows)
            users = self._users[picked]
            negatives = self._negatives.sample(users, self.own(draws)[0])
            entity_ids, entity_share = self.own(self._entities(epoch, step))
            yield TrainingBatch(users, self._items[picked], negatives, entity_ids, pair_share, entity_share)

    def _entities(self, epoch: int, step: int) -> Tensor:
        """Return the entities of a step for all ranks."""
        parts = [rounds.part(epoch * self._num_steps + step) for rounds in self._rounds]
        return torch.cat(parts) if parts else torch.empty(0, dtype=torch.long)


class _Rounds(NamedTuple):
    """Permutations of entities `first` to `first + size`, of which `per_step` are visited per step."""

    first: int
    size: int
    per_step: int
    seed: int

    def part(self, step: int) -> Tensor:
        """Return the entities of a step, counted over all epochs."""
        num_parts = -(-self.size // self.per_step)
        permutation, part = divmod(step, num_parts)
        order = torch.randperm(self.size, generator=generator(self.seed, 2, self.first, permutation))
        return self.first + order.tensor_split(num_parts)[part]


def _entity_rounds(num_users: int, num_items: int, per_step: int, seed: int) -> tuple[_Rounds, ...]:
    if not per_step:
        return ()
    items = max(per_step / 4, per_step * num_items / (num_users + num_items))
    num = min(max(1, round(items)), max(1, per_step - 1))
    return _Rounds(0, num_users, max(1, per_step - num), seed), _Rounds(num_users, num_items, num, seed)


class EvaluationLoader:
    """Batches of users with relevant items, each user on exactly one rank.

    Args:
        seen: Items to mask, `(U, I)` in CSR form.
        relevant: Relevant items, `(U, I)` in CSR form with sorted column indices.
        batch_size: Users per batch, B.
        rank: Index of this process.
        world_size: Number of processes.
    """

    def __init__(
        self,
        seen: sp.csr_array,
        relevant: sp.csr_array,
        *,
        batch_size: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self._seen, self._relevant, self._batch_size = seen, relevant, batch_size
        users = np.flatnonzero(np.diff(relevant.indptr))
        self._users = users[rank::world_size]
        self._is_empty = len(users) == 0

    def __len__(self) -> int:
        # A process without users evaluates an empty batch, so that it takes part in the collectives of the others.
        return 0 if self._is_empty else max(1, -(-len(self._users) // self._batch_size))

    def __iter__(self) -> Iterator[EvaluationBatch]:
        for batch in range(len(self)):
            users = self._users[batch * self._batch_size : (batch + 1) * self._batch_size]
            seen, relevant = _coordinates(self._seen, users), _coordinates(self._relevant, users)
            yield EvaluationBatch(torch.from_numpy(users.astype(np.int64)), *seen, *relevant)


def _coordinates(matrix: sp.csr_array, rows: np.ndarray) -> tuple[Tensor, Tensor]:
    part = matrix[rows]
    row = np.repeat(np.arange(len(rows), dtype=np.int64), np.diff(part.indptr))
    return torch.from_numpy(row), torch.from_numpy(part.indices.astype(np.int64))
