"""Top-k ranking of a table's rows for query vectors, restricted to candidates and without excluded rows."""

from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from face_lightning.errors import check_range
from face_lightning.inner_product import InnerProductSearch
from face_lightning.recommending.index_search import IndexKind, IndexSearch
from face_lightning.recommending.shared_files import SharedFiles

_MAX_SCORES = 2**26  # per tile of queries
_MAX_SCORES_CPU = 2**23  # a larger tile is allocated anew each time, and its page faults cost more than the products


class RankedRows(NamedTuple):
    """Ranking of one tile of queries.

    Attributes:
        queries: Number of each query, as passed to `Catalogue.rank`, `(B,)`.
        rows: Rows of the table, best first, `(B, K)`; the first `counts` of each query are valid.
        scores: Inner products of the rows with the query, `(B, K)`; -inf where invalid.
        counts: Number of valid rows of each query, `(B,)`.
    """

    queries: np.ndarray
    rows: np.ndarray
    scores: np.ndarray
    counts: np.ndarray


def take_rows(table: Tensor, rows: np.ndarray) -> Tensor:
    """Select rows of a table `(B, D)`; a single row is a view, not a copy."""
    return table[rows[0] : rows[0] + 1] if len(rows) == 1 else table[torch.from_numpy(rows)]


class Catalogue:
    """Table whose rows are ranked by inner product: exactly, with ties by row, as in evaluation, or by an index.

    Args:
        table: `(M, D)`, on the device that ranks.
        shared: Cache that shares the rounded table and the index with other processes; None to build them in memory.
        name: Name of the table in the cache.
    """

    def __init__(self, table: Tensor, shared: SharedFiles | None = None, name: str = "rows") -> None:
        self.table = table
        self._shared, self._name = shared, name
        self._full_search: InnerProductSearch | IndexSearch | None = None
        self._last_subset: tuple[np.ndarray, InnerProductSearch] | None = None  # candidates and their search

    def prepare(self) -> None:
        """Build the search among all rows now, including the faster path for single queries."""
        search = self._search(None)
        if isinstance(search, InnerProductSearch):
            search.prepare()

    def use_index(self, kind: IndexKind, queries: Tensor, recall: float) -> float:
        """Rank all rows by a FAISS index from now on; rankings restricted to candidates stay exact.

        Args:
            kind: Kind of index.
            queries: Sample of queries to tune the index on, `(B, D)`.
            recall: Target recall@20.

        Returns:
            The recall@20 reached on the sample.
        """
        search = IndexSearch(self.table, kind, self._shared, self._name)
        reached = search.tune(queries, recall)
        self._full_search = search
        return reached

    def candidates(self, allow: np.ndarray | None, deny: np.ndarray | None) -> np.ndarray | None:
        """Candidate rows for `rank`, ascending; None for all rows.

        Args:
            allow: Rows to choose from; all if None.
            deny: Rows to leave out.
        """
        if allow is None and deny is None:
            return None
        allowed = np.zeros(len(self.table), dtype=bool)
        allowed[slice(None) if allow is None else allow] = True
        if deny is not None:
            allowed[deny] = False
        return np.flatnonzero(allowed)

    def tile_size(self) -> int:
        """Number of queries ranked at once."""
        max_scores = _MAX_SCORES_CPU if self.table.device.type == "cpu" else _MAX_SCORES
        return max(1, min(1024, max_scores // max(1, len(self.table))))

    def rank(
        self,
        queries: Tensor,
        query_numbers: np.ndarray,
        k: int,
        candidates: np.ndarray | None = None,
        excluded: tuple[np.ndarray, np.ndarray] | None = None,
    ) -> Iterator[RankedRows]:
        """Rank rows for queries, tile by tile.

        Args:
            queries: `(B, D)`.
            query_numbers: Number that identifies each query in the result, such as its row among the users, `(B,)`.
            k: Number of rows, K; cut to the number of candidates.
            candidates: Candidate rows from `candidates`; None for all rows.
            excluded: Pairs of a position in `queries` and a row to leave out for it, as two arrays `(N,)`, sorted by
                position and without duplicates.

        Raises:
            ConfigurationError: If `k` is not positive.
        """
        check_range("k", k, least=1, usual="20")
        size = self.tile_size()
        for begin in range(0, len(queries), size):
            tile = queries[begin : begin + size]
            pairs = excluded
            if excluded is not None and len(queries) > size:
                first, last = np.searchsorted(excluded[0], [begin, begin + size])
                pairs = excluded[0][first:last] - begin, excluded[1][first:last]
            yield self._rank_tile(tile, query_numbers[begin : begin + size], k, candidates, pairs)

    def _rank_tile(
        self,
        queries: Tensor,
        query_numbers: np.ndarray,
        k: int,
        candidates: np.ndarray | None,
        excluded: tuple[np.ndarray, np.ndarray] | None,
    ) -> RankedRows:
        num_candidates = len(self.table) if candidates is None else len(candidates)
        k = min(k, num_candidates)
        if k == 0:
            empty = np.empty((len(queries), 0))
            return RankedRows(query_numbers, empty.astype(np.int64), empty, np.zeros(len(queries), np.int64))
        if len(queries) == 1 and self.table.device.type == "cpu":
            return self._rank_one(queries, query_numbers, k, candidates, None if excluded is None else excluded[1])
        counts, pairs = np.full(len(queries), k), None
        if excluded is not None:
            positions, rows = excluded
            if candidates is not None:
                indices = np.searchsorted(candidates, rows).clip(max=num_candidates - 1)
                is_candidate = candidates[indices] == rows
                positions, rows = positions[is_candidate], indices[is_candidate]
            counts = np.minimum(k, num_candidates - np.bincount(positions, minlength=len(queries)))
            pairs = self._tensor(positions), self._tensor(rows)
        best = self._search(candidates).search(queries, k, pairs, num_candidates=max(32, 2 * k))
        if candidates is not None:
            best = self._tensor(candidates)[best]
        scores = (self.table[best] * queries.unsqueeze(1)).sum(-1).cpu().numpy()
        scores[np.arange(k) >= counts[:, None]] = -np.inf
        return RankedRows(query_numbers, best.cpu().numpy(), scores, counts)

    def _rank_one(
        self,
        query: Tensor,
        query_number: np.ndarray,
        k: int,
        candidates: np.ndarray | None,
        excluded: np.ndarray | None,
    ) -> RankedRows:
        """Rank for a single query on the CPU, where the overhead of each tensor operation would dominate."""
        count = len(self.table) if candidates is None else len(candidates)
        if excluded is not None:
            if candidates is not None:
                excluded = np.flatnonzero(np.isin(candidates, excluded))
            count -= len(excluded)
        rows, scores = self._search(candidates).search_one(query, k, excluded)
        if candidates is not None:
            rows = candidates[rows]
        return RankedRows(query_number, rows[None], scores[None], np.array([min(k, count)]))

    def _tensor(self, rows: np.ndarray) -> Tensor:
        return torch.from_numpy(rows.astype(np.int64)).to(self.table.device)

    def _search(self, candidates: np.ndarray | None) -> InnerProductSearch | IndexSearch:
        """The search among candidates; the last one is cached, as consecutive requests often share candidates."""
        if candidates is None:
            if self._full_search is None:
                cache = None if self._shared is None else partial(self._shared.tensor, f"{self._name}-rounded")
                self._full_search = InnerProductSearch(self.table, cache=cache)
            return self._full_search
        subset = self._last_subset
        if subset is None or not np.array_equal(subset[0], candidates):
            self._last_subset = subset = candidates, InnerProductSearch(self.table[self._tensor(candidates)])
        return subset[1]
