"""Exact search for the largest inner products, at the speed of the device's fastest number format."""

from collections.abc import Callable
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from face_lightning.errors import DataError
from face_lightning.hardware import has_bfloat16
from face_lightning.single_query import SingleQuerySearch

_BLOCK = 64  # columns that are searched together for the best scores
_TILE = 4096  # keys whose rounding is looked at together
_PADDING = 128  # rows of a rounded product: oneDNN generates and keeps code for every number of rows that it meets


def check_finite(name: str, table: Tensor) -> None:
    """Refuse a table with NaN or infinity.

    Args:
        name: What the rows are, for the error.
        table: `(M, D)`.

    Raises:
        DataError: If there is one.
    """
    if table.numel() and not bool(torch.stack(torch.aminmax(table)).isfinite().all()):
        row = int(torch.isfinite(table).all(dim=1).logical_not().nonzero()[0])
        raise DataError(
            f"{name}: expected finite numbers, got NaN or infinity in row {row}; train that model again, with a lower "
            "learning rate"
        )


def rank_items(scores: Tensor, top_k: int) -> Tensor:
    """Best columns of each row, such as items, best first; equal scores are ordered by the lowest index.

    Args:
        scores: Score of each item, `(B, I)`.
        top_k: Number of items, K; K > I is cut to I.

    Returns:
        Indices `(B, K)`.
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


class InnerProductSearch:
    """Finds the keys of largest inner product with a query, exactly.

    Products in the device's fastest number format choose candidates, and candidates alone are scored in
    float32, each product summed in a fixed order. A bound on the rounding proves that no other key
    can be among the best; queries for which it does not are searched in float32, and in the end by the
    exact scores of all keys. So the result is that of a full sort of exact scores, to the last bit the
    same for any tile of queries and on any number of processes.

    Args:
        keys: `(M, D)`.
        num_candidates: Keys that are scored exactly at first.
        keep: Gives the rounded keys, which the argument builds, from where they are kept; builds them if None.

    Raises:
        DataError: If a key is not finite: no bound holds then, and the order of all keys would be wrong.
    """

    def __init__(
        self, keys: Tensor, num_candidates: int = 32, keep: Callable[[Callable[[], Tensor]], Tensor] | None = None
    ) -> None:
        check_finite("keys", keys)
        self._keys = keys.detach().float()
        self._num_candidates = num_candidates
        padding = (0, 0, 0, -len(keys) % _BLOCK)
        self._largest_norm = _norms(self._keys).max()
        if has_bfloat16(keys.device):
            rounded = (keep or (lambda build: build()))(lambda: F.pad(self._keys.bfloat16(), padding))
            tiles = zip(self._keys.split(_TILE), rounded.split(_TILE), strict=False)
            errors = [_norms(tile - rough[: len(tile)].float()).max() for tile, rough in tiles]
            self._rough_keys = [(rounded, torch.stack(errors).max()), (self._keys, self._largest_norm.new_zeros(()))]
        else:
            self._rough_keys = [(F.pad(self._keys, padding), self._largest_norm.new_zeros(()))]

    def search(
        self,
        queries: Tensor,
        top_k: int,
        excluded: tuple[Tensor, Tensor] | None = None,
        num_candidates: int | None = None,
    ) -> Tensor:
        """Best keys of each query, excluded ones last, ties by the lowest index.

        Args:
            queries: `(B, D)`; all are worked on at once, in memory for `B * M` scores.
            top_k: Number of keys, K; K > M is cut to M.
            excluded: Rows of `queries`, and keys that they must not get, both `(N,)`, sorted by row.
            num_candidates: Instead of the search's own.

        Returns:
            Indices of keys `(B, K)`, best first.
        """
        num_keys = self._keys.shape[0]
        queries = queries.detach().float()
        if queries.shape[0] == 1 and num_keys and queries.device.type == "cpu":
            others = None if excluded is None else excluded[1].numpy()
            return torch.from_numpy(self._single.search(queries, min(top_k, num_keys), others)[0][None])
        top_k, kept = min(top_k, num_keys), min(max(num_candidates or self._num_candidates, top_k), num_keys)
        best = torch.empty(len(queries), top_k, dtype=torch.long, device=queries.device)
        rows = torch.arange(len(queries), device=queries.device)
        for rough_keys, key_error in self._rough_keys:
            rough_queries = queries.to(rough_keys.dtype)
            rough = _products(rough_queries, rough_keys, num_keys)
            if excluded is not None:
                rough[excluded] = -torch.inf
            values, candidates = _largest(rough, kept, num_keys)
            exact = _dot_products(queries, self._keys, candidates).masked_fill_(values == -torch.inf, -torch.inf)
            scores, order = _sort(exact, candidates)
            best[rows] = order[:, :top_k]
            if kept == num_keys:
                return best
            error = _norms(queries - rough_queries.float()) * self._largest_norm
            error += _norms(queries) * key_error
            open_rows = scores[:, top_k - 1] <= self._largest_outside(values[:, -1], queries, error)
            if not open_rows.any():
                return best
            rows, queries = rows[open_rows], queries[open_rows]
            excluded = _rows_of(excluded, open_rows) if excluded is not None else None
        exact = _dot_products(queries, self._keys, None)
        if excluded is not None:
            exact[excluded] = -torch.inf
        best[rows] = rank_items(exact, top_k)
        return best

    def search_one(
        self, query: Tensor, top_k: int, excluded: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Best keys of one query on the CPU and their scores, without the overhead of the operations on a tile.

        Args:
            query: `(1, D)`.
            top_k: K, at most M.
            excluded: Keys that come last, `(N,)`.

        Returns:
            Indices of keys `(K,)`, best first, and their inner products in float32 `(K,)`; -inf for excluded keys.
        """
        return self._single.search(query.detach().float(), top_k, excluded)

    def prepare(self) -> None:
        """Make single queries faster where FAISS is installed, at the cost of its import and a copy of small tables."""
        if self._keys.device.type == "cpu" and len(self._keys):
            self._single.add_scan()

    @cached_property
    def _single(self) -> SingleQuerySearch:
        """Search for one query on the CPU."""
        rounded, error = self._rough_keys[0]
        return SingleQuerySearch(self._keys, rounded, float(error), float(self._largest_norm))

    def _largest_outside(self, worst_kept: Tensor, queries: Tensor, error: Tensor) -> Tensor:
        """Upper bound of the exact scores of all keys that were not kept, `(B,)`.

        Args:
            worst_kept: Smallest rough score among the kept, `(B,)`.
            queries: `(B, D)`.
            error: By how much rounding the factors may have changed a score, `(B,)`. On top of it come the
                rounding of the score itself, and of sums of D products in float32, twice.
        """
        largest = worst_kept.float()
        summing = 2 * queries.shape[1] * torch.finfo(torch.float32).eps * _norms(queries) * self._largest_norm
        scoring = largest.abs().nan_to_num(posinf=0.0) * torch.finfo(worst_kept.dtype).eps
        underflow = 8 * queries.shape[1] * torch.finfo(torch.float32).tiny  # of products, and of this bound's factors
        bound: Tensor = largest + scoring + 1.01 * (error + summing) + underflow
        return bound


def _norms(rows: Tensor) -> Tensor:
    """Norm of each row in float32, by way of float64: in float32 the squares of numbers below 1e-19 are 0."""
    norms: Tensor = torch.linalg.vector_norm(rows, dim=1, dtype=torch.float64).float()
    return norms


def _products(queries: Tensor, keys: Tensor, num_keys: int) -> Tensor:
    """Products `(B, M')` with M' a multiple of `_BLOCK`; -inf behind the first M columns."""
    padding = 0
    if queries.dtype == torch.bfloat16:  # few queries are padded to a power of two: scores of 128 take far longer
        padding = -len(queries) % min(_PADDING, 1 << (len(queries) - 1).bit_length())
    with torch.autocast(queries.device.type, enabled=False):
        products: Tensor = (F.pad(queries, (0, 0, 0, padding)) @ keys.T)[: len(queries)]
    if len(keys) % _BLOCK:
        return F.pad(products, (0, -len(keys) % _BLOCK), value=-torch.inf)
    products[:, num_keys:] = -torch.inf
    return products


def _largest(scores: Tensor, count: int, num_keys: int) -> tuple[Tensor, Tensor]:
    """Values and indices of the `count` largest of `num_keys` scores of each row, best first, ties cut anywhere.

    They lie in the `count` blocks of `_BLOCK` columns with the largest maxima, which a fast scan finds.
    """
    rows, num_blocks = len(scores), scores.shape[1] // _BLOCK
    if num_blocks <= 2 * count:
        values, indices = scores[:, :num_keys].topk(count, dim=1)
        return values, indices
    blocks = scores.view(rows, num_blocks, _BLOCK)
    best = _best_blocks(blocks, count)
    first = torch.arange(rows, device=scores.device).unsqueeze(1) * num_blocks
    members = blocks.view(-1, _BLOCK).index_select(0, (first + best).flatten()).view(rows, -1)
    values, places = members.topk(count, dim=1)
    indices = best.gather(1, places // _BLOCK) * _BLOCK + places % _BLOCK
    return values, indices.clamp_max(num_keys - 1)  # a column of the padding at -inf may stand for any key there


def _best_blocks(blocks: Tensor, count: int) -> Tensor:
    """Indices of the `count` blocks `(B, blocks, _BLOCK)` with the largest maxima, in any order."""
    if blocks.dtype == torch.bfloat16 and blocks.device.type == "cpu":
        # From 0 on, numbers are ordered as the integers of the same bits, whose maximum takes a quarter of the time.
        # Negative numbers are integers below 0, in the wrong order, which is harmless as long as none is chosen.
        maxima = blocks.view(torch.int16).amax(2).view(torch.bfloat16)
        values, indices = maxima.topk(count, dim=1, sorted=False)
        if bool((values >= 0).all()):
            return indices
    return blocks.amax(2).topk(count, dim=1, sorted=False).indices


def _dot_products(queries: Tensor, keys: Tensor, candidates: Tensor | None, tile_size: int = 2**20) -> Tensor:
    """Dot products of each query with its candidates `(B, C)`, or with all keys; each summed by itself."""
    num_candidates = len(keys) if candidates is None else candidates.shape[1]
    result = queries.new_empty(len(queries), num_candidates)
    rows = max(1, tile_size // max(1, num_candidates * queries.shape[1]))
    for begin in range(0, len(queries), rows):
        tile = slice(begin, begin + rows)
        gathered = keys.unsqueeze(0) if candidates is None else F.embedding(candidates[tile], keys)
        result[tile] = (gathered * queries[tile].unsqueeze(1)).sum(-1)
    return result


def _sort(scores: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
    """Scores and their keys, the largest score first, equal ones by ascending key."""
    keys, order = keys.sort(dim=1)
    scores, order = scores.gather(1, order).sort(dim=1, descending=True, stable=True)
    return scores, keys.gather(1, order)


def _rows_of(coordinates: tuple[Tensor, Tensor], kept: Tensor) -> tuple[Tensor, Tensor]:
    """Coordinates of the kept rows, renumbered."""
    rows, columns = coordinates
    inside = kept[rows]
    return (kept.cumsum(0) - 1)[rows[inside]], columns[inside]
