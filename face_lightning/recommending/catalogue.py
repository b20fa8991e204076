"""Exact ranking of a table's rows for query vectors, among chosen candidates and without excluded ones."""

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

_MAX_SCORES = 2**26  # that are held at once
_MAX_SCORES_CPU = 2**23  # larger tiles take fresh pages of memory every time, which takes longer than the products


class RankedRows(NamedTuple):
    """A tile of a ranking.

    Attributes:
        queries: What `Catalogue.rank` was given to call the queries by, `(B,)`.
        rows: Rows of the table, best first, `(B, K)`.
        scores: Their inner products with the query, `(B, K)`; -inf behind the last that counts.
        counts: How many of the K count, `(B,)`.
    """

    queries: np.ndarray
    rows: np.ndarray
    scores: np.ndarray
    counts: np.ndarray


def take_rows(table: Tensor, rows: np.ndarray) -> Tensor:
    """Rows of a table `(B, D)`; a single one is not copied."""
    return table[rows[0] : rows[0] + 1] if len(rows) == 1 else table[torch.from_numpy(rows)]


class Catalogue:
    """Rows that are ranked by inner product, exactly and with ties by row, as evaluation does, or by an index.

    Args:
        table: `(M, D)`, on the device that ranks.
        shared: Where the rounded table and an index are kept for other processes; None to build them in memory.
        name: Of the table, among those that follow from the same.
    """

    def __init__(self, table: Tensor, shared: SharedFiles | None = None, name: str = "rows") -> None:
        self.table = table
        self._shared, self._name = shared, name
        self._whole: InnerProductSearch | IndexSearch | None = None
        self._subset: tuple[np.ndarray, InnerProductSearch] | None = None  # that was searched last

    def prepare(self) -> None:
        """Build the search among all rows now, and what makes single queries faster."""
        search = self._search(None)
        if isinstance(search, InnerProductSearch):
            search.prepare()

    def use_index(self, kind: IndexKind, queries: Tensor, recall: float) -> float:
        """Rank among all rows by a FAISS index from now on; among fewer candidates the ranking stays exact.

        Args:
            kind: Kind of index.
            queries: Sample on which the index is tuned, `(B, D)`.
            recall: Recall@20 to tune it to.

        Returns:
            The recall@20 that was reached on the sample.
        """
        search = IndexSearch(self.table, kind, self._shared, self._name)
        reached = search.tune(queries, recall)
        self._whole = search
        return reached

    def candidates(self, allow: np.ndarray | None, deny: np.ndarray | None) -> np.ndarray | None:
        """Rows to rank among, ascending; None for all.

        Args:
            allow: Rows that may be found; all if None.
            deny: Rows that may not.
        """
        if allow is None and deny is None:
            return None
        allowed = np.zeros(len(self.table), dtype=bool)
        allowed[slice(None) if allow is None else allow] = True
        if deny is not None:
            allowed[deny] = False
        return np.flatnonzero(allowed)

    def tile_size(self) -> int:
        """Number of queries that are ranked at once."""
        most = _MAX_SCORES_CPU if self.table.device.type == "cpu" else _MAX_SCORES
        return max(1, min(1024, most // max(1, len(self.table))))

    def rank(
        self,
        queries: Tensor,
        names: np.ndarray,
        k: int,
        candidates: np.ndarray | None = None,
        excluded: tuple[np.ndarray, np.ndarray] | None = None,
    ) -> Iterator[RankedRows]:
        """Rank rows for queries, tile by tile.

        Args:
            queries: `(B, D)`.
            names: What to call the queries by, `(B,)`.
            k: Number of rows, K; fewer where there are fewer candidates.
            candidates: What `candidates` gave.
            excluded: Positions in `queries` and rows that they do not get, both `(N,)`, sorted by position; no pair
                twice.

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
            yield self._rank_tile(tile, names[begin : begin + size], k, candidates, pairs)

    def _rank_tile(
        self,
        queries: Tensor,
        names: np.ndarray,
        k: int,
        candidates: np.ndarray | None,
        excluded: tuple[np.ndarray, np.ndarray] | None,
    ) -> RankedRows:
        num_candidates = len(self.table) if candidates is None else len(candidates)
        k = min(k, num_candidates)
        if k == 0:
            nothing = np.empty((len(queries), 0))
            return RankedRows(names, nothing.astype(np.int64), nothing, np.zeros(len(queries), np.int64))
        if len(queries) == 1 and self.table.device.type == "cpu":
            return self._rank_one(queries, names, k, candidates, None if excluded is None else excluded[1])
        counts, pairs = np.full(len(queries), k), None
        if excluded is not None:
            positions, rows = excluded
            if candidates is not None:
                places = np.searchsorted(candidates, rows).clip(max=num_candidates - 1)
                inside = candidates[places] == rows
                positions, rows = positions[inside], places[inside]
            counts = np.minimum(k, num_candidates - np.bincount(positions, minlength=len(queries)))
            pairs = self._tensor(positions), self._tensor(rows)
        best = self._search(candidates).search(queries, k, pairs, num_candidates=max(32, 2 * k))
        if candidates is not None:
            best = self._tensor(candidates)[best]
        scores = (self.table[best] * queries.unsqueeze(1)).sum(-1).cpu().numpy()
        scores[np.arange(k) >= counts[:, None]] = -np.inf
        return RankedRows(names, best.cpu().numpy(), scores, counts)

    def _rank_one(
        self, query: Tensor, names: np.ndarray, k: int, candidates: np.ndarray | None, excluded: np.ndarray | None
    ) -> RankedRows:
        """Rank for one query on the CPU, by as few calls as possible: each takes microseconds."""
        count = len(self.table) if candidates is None else len(candidates)
        if excluded is not None:
            if candidates is not None:
                excluded = np.flatnonzero(np.isin(candidates, excluded))
            count -= len(excluded)
        rows, scores = self._search(candidates).search_one(query, k, excluded)
        if candidates is not None:
            rows = candidates[rows]
        return RankedRows(names, rows[None], scores[None], np.array([min(k, count)]))

    def _tensor(self, rows: np.ndarray) -> Tensor:
        return torch.from_numpy(rows.astype(np.int64)).to(self.table.device)

    def _search(self, candidates: np.ndarray | None) -> InnerProductSearch | IndexSearch:
        """The search among candidates; the last one is kept, as requests often share theirs."""
        if candidates is None:
            if self._whole is None:
                keep = None if self._shared is None else partial(self._shared.tensor, f"{self._name}-rounded")
                self._whole = InnerProductSearch(self.table, keep=keep)
            return self._whole
        kept = self._subset
        if kept is None or not np.array_equal(kept[0], candidates):
            self._subset = kept = candidates, InnerProductSearch(self.table[self._tensor(candidates)])
        return kept[1]
