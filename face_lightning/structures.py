"""Data structures that the data module, the backbones and the stages exchange.

Letters in shapes: B batch, U users, I items, D embedding_dim, S num_descriptors, V vocabulary,
T token_dim, H levels, K top_k, E width of the text encoder's sentence vectors.

Entities are users and items in one index space: user `u` is entity `u`, item `i` is entity `U + i`.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Embeddings(NamedTuple):
    """Final embeddings of all users `(U, D)` and all items `(I, D)`."""

    users: Tensor
    items: Tensor

    def gather(self, entity_ids: Tensor) -> Tensor:
        """Embeddings `(M, D)` of entities, without concatenating the tables or synchronizing with the device."""
        num_users = len(self.users)
        # Each entity reads a row of both tables, as splitting users from items would need a synchronization.
        users = F.embedding(entity_ids.clamp_max(num_users - 1), self.users)
        items = F.embedding((entity_ids - num_users).clamp_min(0), self.items)
        return torch.where((entity_ids < num_users).unsqueeze(1), users, items)


class TrainingBatch(NamedTuple):
    """Interactions with sampled negatives, three vectors `(B,)`, and entities to map `(M,)`.

    `entity_ids` are unique and lie in `[0, U + I)`; the vector is empty if no entities are mapped.

    `pair_share` and `entity_share` are the numbers of rows of this process, divided by their means over processes. A
    mean over the rows of a process times the share, averaged over processes, is the mean over all rows.
    """

    user_ids: Tensor
    positive_ids: Tensor
    negative_ids: Tensor
    entity_ids: Tensor
    pair_share: float = 1.0
    entity_share: float = 1.0

    @property
    def mean_rows(self) -> float:
        """Mean number of interactions per process, or of entities if the batch has no interactions."""
        if len(self.user_ids):
            return len(self.user_ids) / self.pair_share
        return len(self.entity_ids) / self.entity_share

    def gather(self, embeddings: Embeddings) -> tuple[Tensor, Tensor, Tensor]:
        """Embeddings of the batch's users, positive items and negative items, `(B, D)` each."""
        items = F.embedding(torch.cat([self.positive_ids, self.negative_ids]), embeddings.items)
        positive, negative = items.split(len(self.positive_ids))
        return F.embedding(self.user_ids, embeddings.users), positive, negative


class RowBatch(NamedTuple):
    """Users, or items, with all their interactions: rows of the interaction matrix, or of its transpose.

    Attributes:
        of_users: Whether the rows are users and the columns items, or the reverse.
        row_ids: `(B,)`.
        column_ids: Interactions of each row, `(B, N)`, padded after `lengths`.
        lengths: Number of interactions of each row, `(B,)`.
    """

    of_users: bool
    row_ids: Tensor
    column_ids: Tensor
    lengths: Tensor


class EvaluationBatch(NamedTuple):
    """Users to rank items for, with their seen items, which are masked, and their relevant items.

    `user_ids` is `(B,)`. Seen and relevant items are given as coordinates: `seen_rows` and `seen_items`
    are `(N,)`, `relevant_rows` and `relevant_items` `(M,)`; rows index into `user_ids`.
    """

    user_ids: Tensor
    seen_rows: Tensor
    seen_items: Tensor
    relevant_rows: Tensor
    relevant_items: Tensor
