"""Ranking of the whole catalogue for a tile of users, with seen items masked and ties broken."""

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from face_lightning.inner_product import InnerProductSearch, check_finite
from face_lightning.structures import Embeddings, EvaluationBatch


class TileRanker(Protocol):
    """Ranks all items for a tile of users."""

    def rank(self, batch: EvaluationBatch, top_k: int) -> Tensor:
        """Top-k items of each user `(B, K)`, best first, seen items last, ties by ascending item index."""


class Ranker:
    """Ranks all items by exact inner product for tiles of users: see `InnerProductSearch`.

    Args:
        embeddings: Users `(U, D)` and items `(I, D)`.
        num_candidates: Number of items that are scored exactly at first.
    """

    def __init__(self, embeddings: Embeddings, num_candidates: int = 32) -> None:
        check_finite("users", embeddings.users)
        self._users = embeddings.users.float()
        self._search = InnerProductSearch(embeddings.items, num_candidates)

    def rank(self, batch: EvaluationBatch, top_k: int) -> Tensor:
        """Top-k items of each user, seen items last, ties by ascending item index.

        Args:
            batch: Users to rank for, and their seen items.
            top_k: Number of items, K; K > I is cut to I.

        Returns:
            Item indices `(B, K)`, best first.
        """
        users = F.embedding(batch.user_ids, self._users)
        return self._search.search(users, top_k, (batch.seen_rows, batch.seen_items))


def find_hits(ranked: Tensor, batch: EvaluationBatch, num_items: int) -> tuple[Tensor, Tensor]:
    """Find which ranked items are relevant, and count the relevant items of each user.

    Args:
        ranked: Item indices, best first, `(B, K)`.
        batch: Users with their relevant items, sorted by row, then item.
        num_items: I.

    Returns:
        Hits `(B, K)` bool and number of relevant items `(B,)` int64.
    """
    num_relevant = torch.bincount(batch.relevant_rows, minlength=len(ranked))
    relevant = batch.relevant_rows * num_items + batch.relevant_items
    if relevant.numel() == 0:
        return torch.zeros_like(ranked, dtype=torch.bool), num_relevant
    rows = torch.arange(len(ranked), device=ranked.device).unsqueeze(1)
    pairs = rows * num_items + ranked
    positions = torch.searchsorted(relevant, pairs).clamp_max(relevant.numel() - 1)
    return relevant[positions] == pairs, num_relevant
