"""Values that travel between the data module, the backbones and the stages.

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
        """Embeddings `(M, D)` of entities, without joining the two tables, and without a wait for the device."""
        num_users = len(self.users)
        # Each entity reads a row of both tables: how many are users is known on the device alone.
        users = F.embedding(entity_ids.clamp_max(num_users - 1), self.users)
        items = F.embedding((entity_ids - num_users).clamp_min(0), self.items)
        return torch.where((entity_ids < num_users).unsqueeze(1), users, items)


class TrainingBatch(NamedTuple):
    """Interactions with sampled negatives, three vectors `(B,)`, and entities to map `(M,)`.

    `entity_ids` are unique and lie in `[0, U + I)`; the vector is empty where nothing is mapped.

    `pair_share` and `entity_share` tell how many rows this process has, in units of the mean over all
    processes: a mean over the own rows times the share, averaged over processes, is the mean over all rows.
    """

    user_ids: Tensor
    positive_ids: Tensor
    negative_ids: Tensor
    entity_ids: Tensor
    pair_share: float = 1.0
    entity_share: float = 1.0

    @property
    def mean_rows(self) -> float:
        """Interactions, or entities where the batch has no interaction, per process on average."""
        if len(self.user_ids):
            return len(self.user_ids) / self.pair_share
        return len(self.entity_ids) / self.entity_share

    def gather(self, embeddings: Embeddings) -> tuple[Tensor, Tensor, Tensor]:
        """Rows of the batch's users, positive and negative items, `(B, D)` each."""
        items = F.embedding(torch.cat([self.positive_ids, self.negative_ids]), embeddings.items)
        positive, negative = items.split(len(self.positive_ids))
        return F.embedding(self.user_ids, embeddings.users), positive, negative


class RowBatch(NamedTuple):
    """Users, or items, with all their interactions: rows of the interaction matrix, or columns of it.

    Attributes:
        of_users: Whether the rows are users, and the columns items.
        row_ids: `(B,)`.
        column_ids: `(B, N)`; what lies behind a row's interactions is padding.
        lengths: Number of interactions of each row, `(B,)`.
    """

    of_users: bool
    row_ids: Tensor
    column_ids: Tensor
    lengths: Tensor


class EvaluationBatch(NamedTuple):
    """Users to rank items for, with what they have seen and what should be found.

    `user_ids` is `(B,)`. Seen and relevant items come as coordinates: `seen_rows` and `seen_items`
    are `(N,)`, `relevant_rows` and `relevant_items` `(M,)`; rows index into `user_ids`.
    """

    user_ids: Tensor
    seen_rows: Tensor
    seen_items: Tensor
    relevant_rows: Tensor
    relevant_items: Tensor
