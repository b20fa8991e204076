"""ItemKNN: item-based nearest neighbours."""

from collections.abc import Callable
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from scipy.sparse import csr_array, vstack
from torch import Tensor

from face_lightning.baselines.baseline import Baseline
from face_lightning.errors import check_range

Weighting = Literal["cosine", "tf-idf", "bm25"]
_K1, _B = 1.2, 0.75  # usual parameters of BM25 in text retrieval


class ItemKNN(Baseline):
    """Scores an item by the sum of its similarities to the items of a user's history.

    Items are vectors of weighted users, similarities are dot products, and each item keeps its `num_neighbors` most
    similar items. Cosine and TF-IDF vectors have unit length; TF-IDF and BM25 give more weight to users with few
    interactions.

    Reference:
        Sarwar et al., "Item-Based Collaborative Filtering Recommendation Algorithms", WWW 2001.

    Args:
        weighting: Weighting of the interactions.
        num_neighbors: Number of most similar items to keep per item.

    Raises:
        ConfigurationError: If `num_neighbors` is not positive.
    """

    grid: ClassVar = [
        {"weighting": weighting, "num_neighbors": num_neighbors}
        for weighting in ("cosine", "tf-idf", "bm25")
        for num_neighbors in (50, 200, 1000)
    ]

    def __init__(self, weighting: Weighting = "tf-idf", num_neighbors: int = 200) -> None:
        check_range("num_neighbors", num_neighbors, least=1, usual="200")
        self.weighting = weighting
        self.num_neighbors = num_neighbors

    def fit(self, train: csr_array[Any], tile_size: int = 1024) -> None:
        """Find the neighbours of all items, a tile of items at a time."""
        rows = _WEIGHTINGS[self.weighting](csr_array(train.T.tocsr()))
        columns = csr_array(rows.T.tocsr())
        tiles = range(0, rows.shape[0], tile_size)
        self._similarity = vstack(
            [self._neighbors(rows[begin : begin + tile_size] @ columns, begin) for begin in tiles]
        )

    def _neighbors(self, products: csr_array[Any], first: int) -> csr_array[Any]:
        """Keep the largest similarities `(N, I)` of the items from `first` on, without self-similarity."""
        similarity = torch.from_numpy(products.toarray())
        similarity.diagonal(first).zero_()
        values, items = similarity.topk(min(self.num_neighbors, similarity.shape[1]))
        rows = torch.arange(len(values)).repeat_interleave(values.shape[1])
        found = csr_array((values.flatten().numpy(), (rows.numpy(), items.flatten().numpy())), shape=products.shape)
        found.eliminate_zeros()
        return found

    def score(self, history: csr_array[Any]) -> Tensor:
        """Sum the similarities to the items of each history."""
        return torch.from_numpy((history @ self._similarity).toarray())


def _scaled(items: csr_array[Any], rows: np.ndarray | None = None, columns: np.ndarray | None = None) -> csr_array[Any]:
    """Multiply the rows and columns of a matrix by factors."""
    values = items.data.astype(np.float32)
    if rows is not None:
        values *= rows.repeat(np.diff(items.indptr))
    if columns is not None:
        values *= columns[items.indices]
    return csr_array((values, items.indices, items.indptr), shape=items.shape)


def _cosine(items: csr_array[Any]) -> csr_array[Any]:
    """Normalise rows to unit length; empty rows stay empty."""
    norms = np.sqrt(items.power(2).sum(axis=1))
    return _scaled(items, rows=1 / np.maximum(norms, 1e-12))


def _idf(items: csr_array[Any]) -> np.ndarray:
    """Inverse document frequency of users `(U,)`, with items as documents."""
    frequency = np.bincount(items.indices, minlength=items.shape[1])
    return np.maximum(np.log(items.shape[0] / (1 + frequency)), 0).astype(np.float32)


def _tf_idf(items: csr_array[Any]) -> csr_array[Any]:
    return _cosine(_scaled(items, columns=_idf(items)))


def _bm25(items: csr_array[Any]) -> csr_array[Any]:
    """Okapi BM25 with binary term frequencies, which gives the users of popular items less weight."""
    lengths = np.diff(items.indptr)
    damping = _K1 * (1 - _B + _B * lengths / max(lengths.mean(), 1e-12))
    return _scaled(items, rows=(_K1 + 1) / (damping + 1), columns=_idf(items))


_WEIGHTINGS: dict[str, Callable[[csr_array[Any]], csr_array[Any]]] = {
    "cosine": _cosine,
    "tf-idf": _tf_idf,
    "bm25": _bm25,
}
