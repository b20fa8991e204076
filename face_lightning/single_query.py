"""Exact maximum inner product search for a single query on the CPU, in few operations."""

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

_MIN_ROUNDED = 2**20  # elements of a table up to which float32 keys are faster than rounded ones
_GROUP = 64  # scores per group; the maxima of groups bound the K-th best score
# Elements of a table for which a scan by FAISS pays: overhead dominates below, memory bandwidth above.
_SCANNED = range(2**17, 2**23 + 1)
_MARGIN = 8  # keys that a scan returns in addition to the top K and the excluded keys
_MAX_SCANNED_KEYS = 128  # keys that a scan returns at most, as sorting more takes longer than computing all scores
_FLOAT32 = torch.finfo(torch.float32)


class SingleQuerySearch:
    """Exact top-k search for one query: rough scores choose candidates, which are then scored in float32.

    A bound on the rounding error proves that no other key is among the top k, so that the result equals that of
    `InnerProductSearch`, bit for bit.

    Args:
        keys: `(M, D)` in float32.
        rounded: The keys in the device's fastest number format, padded, `(M', D)`.
        error: Maximum norm of the difference between a key and the rounded key.
        largest_norm: Maximum norm of a key.
    """

    def __init__(self, keys: Tensor, rounded: Tensor, error: float, largest_norm: float) -> None:
        self._keys, self._num_keys, self._largest_norm = keys, len(keys), largest_norm
        self._rough, error = (rounded, error) if keys.numel() > _MIN_ROUNDED else (keys, 0.0)
        self._bound = _error_bound(keys.shape[1], error, largest_norm)
        self._resolution = torch.finfo(self._rough.dtype).eps  # relative rounding error of a score
        if self._rough.dtype != torch.float32:  # the query is rounded, too
            query_error = 1.01 * self._resolution / 2 * largest_norm
            self._bound = self._bound._replace(per_norm=self._bound.per_norm + query_error)
        self._scan: _Scan | None = None

    def add_scan(self) -> None:
        """Scan the keys by FAISS from now on, if it is installed and faster for a table of this size."""
        if self._scan is None and self._keys.numel() in _SCANNED:
            self._scan = _build_scan(self._keys.numpy(), self._largest_norm)

    def search(self, query: Tensor, top_k: int, excluded: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Top-k keys of a query in float32 and their scores; see `InnerProductSearch.search_one`."""
        query64 = query.numpy()[0].astype(np.float64)
        norm = math.sqrt(query64 @ query64)
        count = top_k + _MARGIN + (0 if excluded is None else len(excluded))
        if self._scan is not None and count <= _MAX_SCANNED_KEYS and count < self._num_keys:
            candidates, largest_outside = self._scan.best(query.numpy(), norm, count)
            if excluded is not None:
                candidates = candidates[~(candidates[:, None] == excluded).any(1)]
            keys, scores = _rank(candidates, self._score(query, candidates), top_k)
            if scores[-1] > largest_outside:
                return keys, scores
        rough = torch.mv(self._rough, query[0].to(self._rough.dtype)).float().numpy()[: self._num_keys]
        if excluded is not None:
            rough[excluded] = -np.inf
        kth = float(_lower_bound_of_kth(rough, top_k))
        bound = self._bound.at(norm) + self._resolution * abs(kth)
        # Twice the bound would suffice: a score may be too low by it, and the K-th best too high. The comparison is
        # negated so that NaN counts as a candidate.
        threshold = kth - 2.5 * bound
        candidates = (~(rough < threshold)).nonzero()[0]
        exact = self._score(query, candidates)
        if excluded is not None and not threshold > -np.inf:
            exact[np.isin(candidates, excluded)] = -np.inf
        return _rank(candidates, exact, top_k)

    def _score(self, query: Tensor, candidates: np.ndarray) -> np.ndarray:
        """Exact scores of candidates `(C,)`, each summed independently in the order that all searches use."""
        scores: np.ndarray = torch.from_numpy(self._keys.numpy().take(candidates, 0)).mul_(query).sum(-1).numpy()
        return scores


class _Bound(NamedTuple):
    """Bound on the difference between a rough score and the exact one, as long as no number overflows.

    Attributes:
        per_norm: Error per unit of the query's norm.
        underflow: Additional error by numbers that underflow in float32.
    """

    per_norm: float
    underflow: float

    def at(self, norm: float) -> float:
        """Return the bound for a query of the given norm."""
        return self.per_norm * norm + self.underflow


def _error_bound(dim: int, error: float, largest_norm: float) -> _Bound:
    """Bound for keys that rounding changes by at most `error` in norm; both scores are summed in float32."""
    per_norm = error + 2 * dim * _FLOAT32.eps * largest_norm
    small = math.sqrt(dim) * _FLOAT32.tiny
    return _Bound(1.01 * (per_norm + small), 1.01 * (8 * dim * _FLOAT32.tiny + small * largest_norm))


class _Scan:
    """Exhaustive scan by FAISS over the keys in float16: reads half the memory, and keeps only the top scores.

    Args:
        index: FAISS index of the keys.
        bound: Bound on the error of its scores.
        largest_norm: Maximum norm of a key.
    """

    def __init__(self, index: Any, bound: _Bound, largest_norm: float) -> None:  # noqa: ANN401
        self._index, self._bound, self._largest_norm = index, bound, largest_norm

    def best(self, query: np.ndarray, norm: float, count: int) -> tuple[np.ndarray, float]:
        """Keys with the largest rough scores, ascending, and an upper bound on the exact scores of all other keys.

        Args:
            query: `(1, D)`.
            norm: Norm of the query.
            count: Number of keys, less than M.
        """
        scores, keys = self._index.search(query, count)
        keys[0].sort()
        if not norm * self._largest_norm < _FLOAT32.max / 4:  # sums may overflow, so no bound holds
            return keys[0], math.inf
        return keys[0], float(scores[0, -1]) + self._bound.at(norm)


def _build_scan(keys: np.ndarray, largest_norm: float) -> _Scan | None:
    """Scan over keys `(M, D)`; None without FAISS, for keys out of float16's range, or if it sums imprecisely."""
    try:
        import faiss  # optional, and slow to import
    except ImportError:
        return None
    dim = keys.shape[1]
    index = faiss.IndexScalarQuantizer(dim, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)
    index.add(keys)
    decoded = index.reconstruct_n(0, len(keys)).astype(np.float64)
    error = float(np.linalg.norm(decoded - keys, axis=1).max())
    if not math.isfinite(error):
        return None
    # FAISS does not document its arithmetic, and its bfloat16 kernels round the query, so a sample is checked.
    queries = keys[:: max(1, len(keys) // 16)]
    scores, found = index.search(queries, 1)
    differences = np.abs(scores[:, 0] - (decoded[found[:, 0]] * queries).sum(1))
    bound = _error_bound(dim, 0.0, largest_norm)
    if not all(map(np.less_equal, differences, map(bound.at, np.linalg.norm(queries.astype(np.float64), axis=1)))):
        return None
    return _Scan(index, _error_bound(dim, error, largest_norm), largest_norm)


def _rank(keys: np.ndarray, scores: np.ndarray, top_k: int) -> tuple[np.ndarray, np.ndarray]:
    """Top K of ascending keys and their scores, best first, ties by ascending key."""
    order = (-scores).argsort(kind="stable")[:top_k]
    return keys[order], scores[order]


def _lower_bound_of_kth(scores: np.ndarray, top_k: int) -> np.float32:
    """Tight lower bound of the K-th best of `scores` `(M,)`: the K-th best of the maxima of groups of scores."""
    num_groups = max(len(scores) // _GROUP, min(len(scores), 4 * top_k))
    size = len(scores) // num_groups
    maxima = scores[: size * num_groups].reshape(size, num_groups).max(0)
    return np.partition(maxima, num_groups - top_k)[num_groups - top_k]  # type: ignore[no-any-return]
