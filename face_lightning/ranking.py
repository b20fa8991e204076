"""Ranking of the whole catalogue for a tile of users, with seen items masked and ties broken."""

import torch
import torch.nn.functional as F
from torch import Tensor

from face_lightning.hardware import has_bfloat16
from face_lightning.types import Embeddings, EvaluationBatch

_BLOCK = 64  # columns that are searched together for the best scores


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


class Ranker:
    """Ranks all items by dot product for tiles of users, exactly.

    Scores in the device's fastest number format choose candidates, and candidates alone are scored in
    float32, each dot product summed in an order of its own. A bound on the rounding proves that no other
    item can be among the best; users for whom it does not are ranked in float32, and in the end by the
    exact scores of all items. So the result is that of a full sort of exact scores, to the last bit the
    same for any tile of users and on any number of processes.

    Args:
        embeddings: Users `(U, D)` and items `(I, D)`.
        num_candidates: Items that are scored exactly at first.
    """

    def __init__(self, embeddings: Embeddings, num_candidates: int = 32) -> None:
        self._users, self._items = embeddings.users.float(), embeddings.items.float()
        self._num_candidates = num_candidates
        fast = [torch.bfloat16] if has_bfloat16(self._items.device) else []
        padded = F.pad(self._items, (0, 0, 0, -len(self._items) % _BLOCK))
        self._rough_items = [padded.to(number_format) for number_format in (*fast, torch.float32)]
        self._largest_norm = _largest_norm(self._items)
        self._largest_error = [_largest_norm(padded - rough.float()) for rough in self._rough_items]

    def rank(self, batch: EvaluationBatch, top_k: int) -> Tensor:
        """Best items of each user, seen items last, ties by ascending item index.

        Args:
            batch: Users to rank for, and what they have seen.
            top_k: Number of items, K; K > I is cut to I.

        Returns:
            Item indices `(B, K)`, best first.
        """
        num_items = len(self._items)
        users, seen = F.embedding(batch.user_ids, self._users), (batch.seen_rows, batch.seen_items)
        top_k, kept = min(top_k, num_items), min(max(self._num_candidates, top_k), num_items)
        ranked = torch.empty(len(users), top_k, dtype=torch.long, device=users.device)
        rows = torch.arange(len(users), device=users.device)
        for rough_items, item_error in zip(self._rough_items, self._largest_error, strict=True):
            rough_users = users.to(rough_items.dtype)
            rough = rough_users @ rough_items.T
            rough[:, num_items:] = -torch.inf
            rough[seen] = -torch.inf
            values, candidates = _largest(rough, kept, num_items)
            exact = _dot_products(users, self._items, candidates).masked_fill_(values == -torch.inf, -torch.inf)
            scores, order = _sort(exact, candidates)
            ranked[rows] = order[:, :top_k]
            if kept == num_items:
                return ranked
            error = (users - rough_users.float()).norm(dim=1) * self._largest_norm + users.norm(dim=1) * item_error
            open_rows = scores[:, top_k - 1] <= self._largest_outside(values[:, -1], users, error)
            if not open_rows.any():
                return ranked
            rows, users, seen = rows[open_rows], users[open_rows], _rows_of(seen, open_rows)
        exact = _dot_products(users, self._items, None)
        exact[seen] = -torch.inf
        ranked[rows] = rank_items(exact, top_k)
        return ranked

    def _largest_outside(self, worst_kept: Tensor, users: Tensor, error: Tensor) -> Tensor:
        """Upper bound of the exact scores of all items that were not kept, `(B,)`.

        Args:
            worst_kept: Smallest rough score among the kept, `(B,)`.
            users: `(B, D)`.
            error: By how much rounding the factors may have changed a score, `(B,)`. On top of it come the
                rounding of the score itself, and of sums of D products in float32, twice.
        """
        largest = worst_kept.float()
        summing = 2 * users.shape[1] * torch.finfo(torch.float32).eps * users.norm(dim=1) * self._largest_norm
        scoring = largest.abs().nan_to_num(posinf=0.0) * torch.finfo(worst_kept.dtype).eps
        bound: Tensor = largest + scoring + 1.01 * (error + summing)
        return bound


def _largest_norm(vectors: Tensor) -> Tensor:
    largest: Tensor = vectors.norm(dim=1).max()
    return largest


def _largest(scores: Tensor, count: int, num_items: int) -> tuple[Tensor, Tensor]:
    """Values and indices of the `count` largest of `num_items` scores of each row, best first, ties cut anywhere.

    They lie in the `count` blocks of `_BLOCK` columns with the largest maxima, which a fast scan finds.
    """
    rows, num_blocks = len(scores), scores.shape[1] // _BLOCK
    if num_blocks <= 2 * count:
        values, indices = scores[:, :num_items].topk(count, dim=1)
        return values, indices
    blocks = scores.view(rows, num_blocks, _BLOCK)
    best = blocks.amax(2).topk(count, dim=1, sorted=False).indices
    first = torch.arange(rows, device=scores.device).unsqueeze(1) * num_blocks
    members = blocks.view(-1, _BLOCK).index_select(0, (first + best).flatten()).view(rows, -1)
    values, places = members.topk(count, dim=1)
    indices = best.gather(1, places // _BLOCK) * _BLOCK + places % _BLOCK
    return values, indices.clamp_max(num_items - 1)  # a column of the padding at -inf may stand for any item there


def _dot_products(users: Tensor, items: Tensor, candidates: Tensor | None, tile_size: int = 2**20) -> Tensor:
    """Dot products of each user with its candidates `(B, C)`, or with all items; each summed by itself."""
    num_candidates = len(items) if candidates is None else candidates.shape[1]
    result = users.new_empty(len(users), num_candidates)
    rows = max(1, tile_size // max(1, num_candidates * users.shape[1]))
    for begin in range(0, len(users), rows):
        tile = slice(begin, begin + rows)
        gathered = items.unsqueeze(0) if candidates is None else F.embedding(candidates[tile], items)
        result[tile] = (gathered * users[tile].unsqueeze(1)).sum(-1)
    return result


def _sort(scores: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
    """Scores and their items, the largest score first, equal ones by ascending item."""
    items, order = items.sort(dim=1)
    scores, order = scores.gather(1, order).sort(dim=1, descending=True, stable=True)
    return scores, items.gather(1, order)


def _rows_of(coordinates: tuple[Tensor, Tensor], kept: Tensor) -> tuple[Tensor, Tensor]:
    """Coordinates of the kept rows, renumbered."""
    rows, columns = coordinates
    inside = kept[rows]
    return (kept.cumsum(0) - 1)[rows[inside]], columns[inside]


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
