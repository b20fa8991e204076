"""Search for the keys of largest inner product with one query on the CPU, exactly and in few operations."""

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

_ROUNDED = 2**20  # numbers in a table up to which float32 keys are faster than rounded ones
_GROUP = 64  # scores that are represented by the largest of them in the bound of the K-th best
_SCANNED = range(2**17, 2**23 + 1)  # numbers in a table that FAISS scans: below calls decide, above memory bandwidth
_MARGIN = 8  # keys that a scan keeps in addition to those that can be among the best K
_KEPT = 128  # keys that a scan keeps at most: with more, sorting them takes longer than writing all scores
_FLOAT32 = torch.finfo(torch.float32)


class SingleQuerySearch:
    """Finds the best keys of one query: rough scores choose candidates, which are then scored in float32.

    A bound on the rounding proves that no other key can be among the best, so that the result is that of
    `InnerProductSearch`, to the last bit.

    Args:
        keys: `(M, D)` in float32.
        rounded: The keys in the number format that the device multiplies fastest, padded, `(M', D)`.
        error: Largest norm of the difference between a key and the rounded one.
        largest_norm: Largest norm of a key.
    """

    def __init__(self, keys: Tensor, rounded: Tensor, error: float, largest_norm: float) -> None:
        self._keys, self._num_keys, self._largest_norm = keys, len(keys), largest_norm
        self._rough, error = (rounded, error) if keys.numel() > _ROUNDED else (keys, 0.0)
        self._bound = _bound_of(keys.shape[1], error, largest_norm)
        number = torch.finfo(self._rough.dtype)
        self._resolution = number.eps  # relative error of a score by its own rounding
        if self._rough.dtype != torch.float32:  # the query is rounded as well
            self._bound = self._bound._replace(per_norm=self._bound.per_norm + 1.01 * number.eps / 2 * largest_norm)
        self._scan: _Scan | None = None

    def add_scan(self) -> None:
        """Scan the keys by FAISS from now on if it is installed, and faster for a table of this size."""
        if self._scan is None and self._keys.numel() in _SCANNED:
            self._scan = _build_scan(self._keys.numpy(), self._largest_norm)

    def search(self, query: Tensor, top_k: int, excluded: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Best keys of a query in float32 and their scores; see `InnerProductSearch.search_one`."""
        wide = query.numpy()[0].astype(np.float64)
        norm = math.sqrt(wide @ wide)
        kept = top_k + _MARGIN + (0 if excluded is None else len(excluded))
        if self._scan is not None and kept <= _KEPT and kept < self._num_keys:
            candidates, largest_outside = self._scan.best(query.numpy(), norm, kept)
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
        # Twice the bound would do: one score may be too high by it, and the K-th best too low. What is not comparable
        # counts as a candidate.
        threshold = kth - 2.5 * bound
        candidates = (~(rough < threshold)).nonzero()[0]
        exact = self._score(query, candidates)
        if excluded is not None and not threshold > -np.inf:
            exact[np.isin(candidates, excluded)] = -np.inf
        return _rank(candidates, exact, top_k)

    def _score(self, query: Tensor, candidates: np.ndarray) -> np.ndarray:
        """Exact scores of candidates `(C,)`, each summed by itself in the order in which all searches do it."""
        scores: np.ndarray = torch.from_numpy(self._keys.numpy().take(candidates, 0)).mul_(query).sum(-1).numpy()
        return scores


class _Bound(NamedTuple):
    """By how much a rough score can differ from the exact one, as long as no number overflows.

    Attributes:
        per_norm: Error for each unit of the query's norm.
        least: Error on top, by numbers too small for float32, which may become 0.
    """

    per_norm: float
    least: float

    def at(self, norm: float) -> float:
        """The bound for a query of a norm."""
        return self.per_norm * norm + self.least


def _bound_of(dim: int, error: float, largest_norm: float) -> _Bound:
    """Bound for keys whose rounding has changed them by at most `error`; both scores are summed in float32."""
    per_norm = error + 2 * dim * _FLOAT32.eps * largest_norm
    small = math.sqrt(dim) * _FLOAT32.tiny
    return _Bound(1.01 * (per_norm + small), 1.01 * (8 * dim * _FLOAT32.tiny + small * largest_norm))


class _Scan:
    """A scan by FAISS over the keys in float16: half of the reading, and only the best scores are kept.

    Args:
        index: FAISS index of the keys.
        bound: Bound on the error of its scores.
        largest_norm: Largest norm of a key.
    """

    def __init__(self, index: Any, bound: _Bound, largest_norm: float) -> None:  # noqa: ANN401
        self._index, self._bound, self._largest_norm = index, bound, largest_norm

    def best(self, query: np.ndarray, norm: float, count: int) -> tuple[np.ndarray, float]:
        """Keys of the largest rough scores, ascending, and a number that no exact score of another key exceeds.

        Args:
            query: `(1, D)`.
            norm: Its norm.
            count: Number of keys, less than M.
        """
        scores, keys = self._index.search(query, count)
        keys[0].sort()
        if not norm * self._largest_norm < _FLOAT32.max / 4:  # sums may overflow, and no bound holds
            return keys[0], math.inf
        return keys[0], float(scores[0, -1]) + self._bound.at(norm)


def _build_scan(keys: np.ndarray, largest_norm: float) -> _Scan | None:
    """A scan over keys `(M, D)`; None without FAISS, for keys beyond float16, or if it does not sum in float32."""
    try:
        import faiss  # optional, and a quarter of a second
    except ImportError:
        return None
    dim = keys.shape[1]
    index = faiss.IndexScalarQuantizer(dim, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)
    index.add(keys)
    decoded = index.reconstruct_n(0, len(keys)).astype(np.float64)
    error = float(np.linalg.norm(decoded - keys, axis=1).max())
    if not math.isfinite(error):
        return None
    # FAISS does not document its arithmetic, and its kernels for bfloat16 round the query: so a sample is looked at.
    queries = keys[:: max(1, len(keys) // 16)]
    scores, found = index.search(queries, 1)
    differences = np.abs(scores[:, 0] - (decoded[found[:, 0]] * queries).sum(1))
    summing = _bound_of(dim, 0.0, largest_norm)
    if not all(map(np.less_equal, differences, map(summing.at, np.linalg.norm(queries.astype(np.float64), axis=1)))):
        return None
    return _Scan(index, _bound_of(dim, error, largest_norm), largest_norm)


def _rank(keys: np.ndarray, scores: np.ndarray, top_k: int) -> tuple[np.ndarray, np.ndarray]:
    """The K best of ascending keys and their scores, best first, equal scores by ascending key."""
    order = (-scores).argsort(kind="stable")[:top_k]
    return keys[order], scores[order]


def _lower_bound_of_kth(scores: np.ndarray, top_k: int) -> np.float32:
    """A score that at least K of `scores` `(M,)` reach, and few others: the K-th best maximum of groups of scores."""
    num_groups = max(len(scores) // _GROUP, min(len(scores), 4 * top_k))
    size = len(scores) // num_groups
    maxima = scores[: size * num_groups].reshape(size, num_groups).max(0)
    return np.partition(maxima, num_groups - top_k)[num_groups - top_k]  # type: ignore[no-any-return]
