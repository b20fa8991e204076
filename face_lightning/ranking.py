"""Ranking of the whole catalogue for a tile of users, with seen items masked and ties broken."""

import torch
from torch import Tensor

from face_lightning.types import Embeddings, EvaluationBatch


def rank_items(scores: Tensor, top_k: int) -> Tensor:
    """Best items of each row, best first; equal scores are ordered by ascending item index.

    Args:
        scores: Score of each item, `(B, I)`.
        top_k: Number of items, K; K > I is cut to I.

    Returns:
        Item indices `(B, K)`.
    """
    num_items = scores.shape[1]
    top_k = min(top_k, num_items)
    values, items = scores.topk(min(top_k + 1, num_items), dim=1)
    if num_items > top_k:  # a tie across the cut: topk may have kept any of the equal items
        torn = (values[:, top_k - 1] == values[:, top_k]).nonzero().squeeze(1)
        values, items = values[:, :top_k], items[:, :top_k]
        if torn.numel():
            order = torch.sort(scores[torn], dim=1, descending=True, stable=True)
            values[torn], items[torn] = order.values[:, :top_k], order.indices[:, :top_k]
    items, order_by_item = items.sort(dim=1)
    order_by_value = values.gather(1, order_by_item).sort(dim=1, descending=True, stable=True).indices
    return items.gather(1, order_by_value)


def score_items(embeddings: Embeddings, batch: EvaluationBatch) -> Tensor:
    """Scores `(B, I)` of all items for the batch's users: dot products, with seen items at -inf."""
    scores = embeddings.users[batch.user_ids] @ embeddings.items.T
    scores[batch.seen_rows, batch.seen_items] = -torch.inf
    return scores


def find_hits(ranked: Tensor, batch: EvaluationBatch, num_items: int) -> tuple[Tensor, Tensor]:
    """Which ranked items are relevant, and how many items are relevant at all.

    Args:
        ranked: Item indices, best first, `(B, K)`.
        batch: Users whose relevant items are sorted by row, then item.
        num_items: I.

    Returns:
        Hits `(B, K)` bool and number of relevant items `(B,)` int64.
    """
    num_relevant = torch.bincount(batch.relevant_rows, minlength=len(ranked))
    relevant = batch.relevant_rows * num_items + batch.relevant_items
    if relevant.numel() == 0:
        return torch.zeros_like(ranked, dtype=torch.bool), num_relevant
    rows = torch.arange(len(ranked), device=ranked.device).unsqueeze(1)
    wanted = rows * num_items + ranked
    position = torch.searchsorted(relevant, wanted).clamp_max(relevant.numel() - 1)
    return relevant[position] == wanted, num_relevant
