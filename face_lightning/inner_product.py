"""Exact maximum inner product search that selects candidates in the device's fastest number format."""

from collections.abc import Callable
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from face_lightning.errors import DataError
from face_lightning.hardware import has_bfloat16
from face_lightning.single_query import SingleQuerySearch

_BLOCK = 64  # columns per block; the maxima of blocks are searched before their members
_TILE = 4096  # keys whose rounding errors are measured at once
_PADDING = 128  # rows of bfloat16 products are padded, as oneDNN generates and caches code for each number of rows


def check_finite(name: str, table: Tensor) -> None:
    """Check that a table has neither NaN nor infinity.

    Args:
        name: Name of the rows for the error message.
        table: `(M, D)`.

    Raises:
        DataError: If a value is not finite.
    """
    if table.numel() and not bool(torch.stack(torch.aminmax(table)).isfinite().all()):
        row = int(torch.isfinite(table).all(dim=1).logical_not().nonzero()[0])
        raise DataError(
            f"{name}: expected finite numbers, got NaN or infinity in row {row}; train that model again, with a lower "
            "learning rate"
        )


def rank_items(scores: Tensor, top_k: int) -> Tensor:
    """Return the top-k items of each row of scores, best first; ties are ordered by index.

    Args:
        scores: Score of each item, `(B, I)`.
        top_k: Number of items, K; at most I are returned.

    Returns:
        Indices `(B, K)`.
    """
    num_items = scores.shape[1]
    top_k = min(top_k, num_items)
    values, items = scores.topk(min(top_k + 1, num_items), dim=1)
    if num_items > top_k:  # with a tie at rank K, topk may have chosen any of the equal items
        tied = (values[:, top_k - 1] == values[:, top_k]).nonzero().squeeze(1)
        values, items = values[:, :top_k], items[:, :top_k]
        if tied.numel():
            order = torch.sort(scores[tied], dim=1, descending=True, stable=True)
            values[tied], items[tied] = order.values[:, :top_k], order.indices[:, :top_k]
    items, order_by_item = items.sort(dim=1)
    order_by_value = values.gather(1, order_by_item).sort(dim=1, descending=True, stable=True).indices
    return items.gather(1, order_by_value)


class InnerProductSearch:
    """Exact top-k search by inner product.

    Candidates are selected by products in the device's fastest number format. Only candidates are scored exactly: in
    float32, with each product summed in a fixed order. A bound on the rounding error proves that no other key is among
    the top k. Queries for which the proof fails are searched again with float32 products, and finally by the exact
    scores of all keys. The result is therefore bit-identical to a full sort of the exact scores, independently of
    query batches and the number of processes.

    Args:
        keys: `(M, D)`.
        num_candidates: Number of candidates in the first attempt.
        cache: Returns the rounded keys from a cache, and calls its argument to build them on a miss; None to always
            build them.

    Raises:
        DataError: If a key is not finite, since the error bound requires finite keys.
    """

    def __init__(
        self, keys: Tensor, num_candidates: int = 32, cache: Callable[[Callable[[], Tensor]], Tensor] | None = None
    ) -> None:
        check_finite("keys", keys)
        self._keys = keys.detach().float()
        self._num_candidates = num_candidates
        padding = (0, 0, 0, -len(keys) % _BLOCK)
        self._largest_norm = _norms(self._keys).max()
        if has_bfloat16(keys.device):
            rounded = (cache or (lambda build: build()))(lambda: F.pad(self._keys.bfloat16(), padding))
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
        """Return the top-k keys of each query, excluded ones last, ties by index.

        Args:
            queries: `(B, D)`; searched in one pass, with memory for `B * M` scores.
            top_k: Number of keys, K; at most M are returned.
            excluded: Pairs of a row of `queries` and a key to exclude for it, as two tensors `(N,)`, sorted by row.
            num_candidates: Overrides the `num_candidates` of the constructor.

        Returns:
            Indices of keys `(B, K)`, best first.
        """
        num_keys = self._keys.shape[0]
        queries = queries.detach().float()
        if queries.shape[0] == 1 and num_keys and queries.device.type == "cpu":
            excluded_keys = None if excluded is None else excluded[1].numpy()
            return torch.from_numpy(self._single.search(queries, min(top_k, num_keys), excluded_keys)[0][None])
        top_k = min(top_k, num_keys)
        num_candidates = min(max(num_candidates or self._num_candidates, top_k), num_keys)
        best = torch.empty(len(queries), top_k, dtype=torch.long, device=queries.device)
        rows = torch.arange(len(queries), device=queries.device)
        for rough_keys, key_error in self._rough_keys:
            rough_queries = queries.to(rough_keys.dtype)
            rough = _products(rough_queries, rough_keys, num_keys)
            if excluded is not None:
                rough[excluded] = -torch.inf
            values, candidates = _largest(rough, num_candidates, num_keys)
            exact = _dot_products(queries, self._keys, candidates).masked_fill_(values == -torch.inf, -torch.inf)
            scores, order = _sort(exact, candidates)
            best[rows] = order[:, :top_k]
            if num_candidates == num_keys:
                return best
            error = _norms(queries - rough_queries.float()) * self._largest_norm
            error += _norms(queries) * key_error
            unproven = scores[:, top_k - 1] <= self._largest_outside(values[:, -1], queries, error)
            if not unproven.any():
                return best
            rows, queries = rows[unproven], queries[unproven]
            excluded = _select_rows(excluded, unproven) if excluded is not None else None
        exact = _dot_products(queries, self._keys, None)
        if excluded is not None:
            exact[excluded] = -torch.inf
        best[rows] = rank_items(exact, top_k)
        return best

    def search_one(
        self, query: Tensor, top_k: int, excluded: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the top-k keys of one query on the CPU and their scores, without the overhead of batched operations.

        Args:
            query: `(1, D)`.
            top_k: K, at most M.
            excluded: Keys to rank last, `(N,)`.

        Returns:
            Indices of keys `(K,)`, best first, and their inner products in float32 `(K,)`; -inf for excluded keys.
        """
        return self._single.search(query.detach().float(), top_k, excluded)

    def prepare(self) -> None:
        """Speed up single queries by FAISS if installed, at the cost of importing it and copying small tables."""
        if self._keys.device.type == "cpu" and len(self._keys):
            self._single.add_scan()

    @cached_property
    def _single(self) -> SingleQuerySearch:
        """Search for one query on the CPU."""
        rounded, error = self._rough_keys[0]
        return SingleQuerySearch(self._keys, rounded, float(error), float(self._largest_norm))

    def _largest_outside(self, worst_candidate: Tensor, queries: Tensor, error: Tensor) -> Tensor:
        """Upper bound of the exact scores of all keys that are not candidates, `(B,)`.

        Args:
            worst_candidate: Smallest rough score among the candidates, `(B,)`.
            queries: `(B, D)`.
            error: Maximum error of a score from rounding its factors, `(B,)`. The bound adds the rounding error of the
                score itself, and twice that of a sum of D products in float32.
        """
        largest = worst_candidate.float()
        summing = 2 * queries.shape[1] * torch.finfo(torch.float32).eps * _norms(queries) * self._largest_norm
        scoring = largest.abs().nan_to_num(posinf=0.0) * torch.finfo(worst_candidate.dtype).eps
        underflow = 8 * queries.shape[1] * torch.finfo(torch.float32).tiny  # in products and in this bound's terms
        bound: Tensor = largest + scoring + 1.01 * (error + summing) + underflow
        return bound


def _norms(rows: Tensor) -> Tensor:
    """Norm of each row in float32; computed in float64, because squares of numbers below 1e-19 underflow in float32."""
    norms: Tensor = torch.linalg.vector_norm(rows, dim=1, dtype=torch.float64).float()
    return norms


def _products(queries: Tensor, keys: Tensor, num_keys: int) -> Tensor:
    """Products `(B, M')`, where M' is M rounded up to a multiple of `_BLOCK`; the added columns are -inf."""
    padding = 0
    if queries.dtype == torch.bfloat16:  # small batches are padded only to a power of two, since 128 rows take longer
        padding = -len(queries) % min(_PADDING, 1 << (len(queries) - 1).bit_length())
    with torch.autocast(queries.device.type, enabled=False):
        products: Tensor = (F.pad(queries, (0, 0, 0, padding)) @ keys.T)[: len(queries)]
    if len(keys) % _BLOCK:
        return F.pad(products, (0, -len(keys) % _BLOCK), value=-torch.inf)
    products[:, num_keys:] = -torch.inf
    return products


def _largest(scores: Tensor, count: int, num_keys: int) -> tuple[Tensor, Tensor]:
    """Values and indices of the `count` largest of `num_keys` scores of each row, best first, ties in any order.

    They lie in the `count` blocks of `_BLOCK` columns with the largest maxima, which are fast to find.
    """
    rows, num_blocks = len(scores), scores.shape[1] // _BLOCK
    if num_blocks <= 2 * count:
        values, indices = scores[:, :num_keys].topk(count, dim=1)
        return values, indices
    blocks = scores.view(rows, num_blocks, _BLOCK)
    best = _best_blocks(blocks, count)
    first = torch.arange(rows, device=scores.device).unsqueeze(1) * num_blocks
    members = blocks.view(-1, _BLOCK).index_select(0, (first + best).flatten()).view(rows, -1)
    values, positions = members.topk(count, dim=1)
    indices = best.gather(1, positions // _BLOCK) * _BLOCK + positions % _BLOCK
    return values, indices.clamp_max(num_keys - 1)  # the value of a padding column is -inf, so any key will do


def _best_blocks(blocks: Tensor, count: int) -> Tensor:
    """Indices of the `count` blocks `(B, blocks, _BLOCK)` with the largest maxima, in any order."""
    if blocks.dtype == torch.bfloat16 and blocks.device.type == "cpu":
        # Non-negative floats are ordered as the integers with the same bits, whose maximum takes a quarter of the time.
        # Negative floats become negative integers in the wrong order, which does not matter unless one is chosen.
        maxima = blocks.view(torch.int16).amax(2).view(torch.bfloat16)
        values, indices = maxima.topk(count, dim=1, sorted=False)
        if bool((values >= 0).all()):
            return indices
    return blocks.amax(2).topk(count, dim=1, sorted=False).indices


def _dot_products(queries: Tensor, keys: Tensor, candidates: Tensor | None, tile_size: int = 2**20) -> Tensor:
    """Dot products of each query with its candidates `(B, C)`, or with all keys; each is summed independently."""
    num_candidates = len(keys) if candidates is None else candidates.shape[1]
    result = queries.new_empty(len(queries), num_candidates)
    rows = max(1, tile_size // max(1, num_candidates * queries.shape[1]))
    for begin in range(0, len(queries), rows):
        tile = slice(begin, begin + rows)
        gathered = keys.unsqueeze(0) if candidates is None else F.embedding(candidates[tile], keys)
        result[tile] = (gathered * queries[tile].unsqueeze(1)).sum(-1)
    return result


def _sort(scores: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
    """Sort scores and their keys by descending score, ties by ascending key."""
    keys, order = keys.sort(dim=1)
    scores, order = scores.gather(1, order).sort(dim=1, descending=True, stable=True)
    return scores, keys.gather(1, order)


def _select_rows(coordinates: tuple[Tensor, Tensor], mask: Tensor) -> tuple[Tensor, Tensor]:
    """Select the coordinates in rows where `mask` is true, and renumber these rows."""
    rows, columns = coordinates
    selected = mask[rows]
    return (mask.cumsum(0) - 1)[rows[selected]], columns[selected]
