"""Approximate maximum inner product search by a FAISS index, tuned to a recall."""

from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from face_lightning.imports import import_optional
from face_lightning.inner_product import InnerProductSearch
from face_lightning.recommending.shared_files import SharedFiles

IndexKind = Literal["flat", "hnsw", "ivf"]
_NEIGHBORS, _CONSTRUCTION = 32, 200  # HNSW's M and efConstruction
_LARGE = 2**18  # number of vectors beyond which HNSW gets half the neighbors, to be built in a third of the time
_LARGE_NEIGHBORS, _LARGE_CONSTRUCTION = 16, 80
_LISTS = 4  # IVF has this many lists times the square root of the number of vectors


def build_index(vectors: np.ndarray, kind: IndexKind) -> Any:  # noqa: ANN401 a FAISS index
    """Build an inner-product index.

    Args:
        vectors: `(M, D)`, float32.
        kind: "flat" searches all vectors; "hnsw" and "ivf" are approximate.

    Raises:
        MissingDependencyError: If FAISS is not installed.
    """
    faiss = import_optional("faiss", extra="cpu", purpose=f"an index of kind {kind}")
    num_vectors, dim = vectors.shape
    if kind == "flat":
        index = faiss.IndexFlatIP(dim)
    elif kind == "hnsw":
        index = _empty_graph(num_vectors, dim, faiss.METRIC_INNER_PRODUCT)
    else:
        # FAISS warns below 39 vectors per list.
        num_lists = max(1, min(round(_LISTS * num_vectors**0.5), num_vectors // 39))
        index = faiss.IndexIVFFlat(faiss.IndexFlatIP(dim), dim, num_lists, faiss.METRIC_INNER_PRODUCT)
        index.cp.max_points_per_centroid = 64  # a quarter of the default, so large tables train four times as fast
        index.train(vectors)
    index.add(vectors)
    return index


def _empty_graph(num_vectors: int, dim: int, metric: int) -> Any:  # noqa: ANN401 a FAISS index
    """An empty HNSW index, with parameters for `num_vectors` vectors."""
    import faiss

    neighbors, construction = _NEIGHBORS, _CONSTRUCTION
    if num_vectors > _LARGE:
        neighbors, construction = _LARGE_NEIGHBORS, _LARGE_CONSTRUCTION
    index = faiss.IndexHNSWFlat(dim, neighbors, metric)
    index.hnsw.efConstruction = construction
    return index


def _build_graph(vectors: np.ndarray) -> Any:  # noqa: ANN401 a FAISS index
    """Build HNSW over vectors extended to equal norms by one coordinate, `(M, D + 1)`; see `IndexSearch`."""
    faiss = import_optional("faiss", extra="cpu", purpose="an index of kind hnsw")
    squares = np.square(vectors).sum(axis=1)
    lifted = np.column_stack([vectors, np.sqrt(squares.max() - squares)])
    index = _empty_graph(len(lifted), lifted.shape[1], faiss.METRIC_L2)
    index.add(np.ascontiguousarray(lifted))
    return index


class IndexSearch:
    """Approximate top-k search by inner product with a FAISS index; has the interface of `InnerProductSearch`.

    HNSW searches nearest neighbors in D + 1 dimensions: an additional coordinate gives all keys the same norm and is 0
    for queries, so that the largest inner product is the smallest distance. This graph reaches the same recall with
    far less search than one built by inner products, in which the keys of largest norm are everyone's neighbors.
    Queries for which the index finds fewer than K keys are searched exactly.

    Reference:
        Bachrach et al., "Speeding Up the Xbox Recommender System Using a Euclidean Transformation for Inner-Product
        Spaces", RecSys 2014.

    Args:
        keys: `(M, D)`.
        kind: "hnsw" or "ivf".
        shared: Cache that shares the index with other processes; None to build it in memory.
        name: Name of the keys in the cache.

    Raises:
        DataError: If a key is not finite.
        MissingDependencyError: If FAISS is not installed.
    """

    def __init__(self, keys: Tensor, kind: IndexKind, shared: SharedFiles | None = None, name: str = "keys") -> None:
        self.kind = kind
        self._keys = keys.float()
        cache = None if shared is None else partial(shared.tensor, f"{name}-rounded")
        self._exact = InnerProductSearch(keys, cache=cache)
        self.index = self._build() if shared is None else self._read(shared.path(f"{name}.{kind}", self._write))

    def _build(self) -> Any:  # noqa: ANN401 a FAISS index
        vectors = np.ascontiguousarray(self._keys.cpu().numpy())
        return _build_graph(vectors) if self.kind == "hnsw" else build_index(vectors, self.kind)

    def _write(self, path: Path) -> None:
        index = self._build()
        import_optional("faiss", extra="cpu", purpose="an index").write_index(index, str(path))

    @staticmethod
    def _read(path: Path) -> Any:  # noqa: ANN401 a FAISS index
        faiss = import_optional("faiss", extra="cpu", purpose="an index")
        return faiss.read_index(str(path), getattr(faiss, "IO_FLAG_MMAP_IFC", 0))  # older versions cannot memory-map

    def tune(self, queries: Tensor, recall: float, top_k: int = 20) -> float:
        """Double `efSearch` or `nprobe` until a target recall is reached.

        Args:
            queries: Sample on which the recall is measured, `(B, D)`.
            recall: Target share of the exact top K that is found.
            top_k: Number of keys, K.

        Returns:
            The recall reached; HNSW may stay below the target.
        """
        exact = self._exact.search(queries, top_k)
        max_effort = self.index.nlist if self.kind == "ivf" else len(self._keys)
        effort, reached = (1 if self.kind == "ivf" else 32), 0.0
        while reached < recall:
            self._set_effort(effort)
            found = self.search(queries, top_k)
            reached = float((found.unsqueeze(2) == exact.unsqueeze(1)).any(2).float().mean())
            if effort >= max_effort:
                break
            effort = min(2 * effort, max_effort)
        return reached

    def search(
        self,
        queries: Tensor,
        top_k: int,
        excluded: tuple[Tensor, Tensor] | None = None,
        num_candidates: int | None = None,
    ) -> Tensor:
        """Approximate top-k keys of each query, best first, excluded ones last; see `InnerProductSearch.search`."""
        num_keys = len(self._keys)
        top_k = min(top_k, num_keys)
        queries = queries.float()
        if len(queries) == 1 and queries.device.type == "cpu":
            excluded_keys = None if excluded is None else excluded[1].numpy()
            return torch.from_numpy(self.search_one(queries, top_k, excluded_keys)[0][None])
        num_excluded = torch.zeros(len(queries), dtype=torch.long, device=queries.device)
        if excluded is not None:
            num_excluded = torch.bincount(excluded[0], minlength=len(queries))
        num_wanted = min(num_keys, top_k + int(num_excluded.max()))
        vectors = F.pad(queries, (0, self.index.d - queries.shape[1])).cpu().numpy()
        found = torch.from_numpy(self.index.search(np.ascontiguousarray(vectors), num_wanted)[1])
        found = found.to(queries.device)
        missing = found < 0
        if excluded is not None:
            cells = torch.arange(len(queries), device=queries.device).unsqueeze(1) * num_keys + found
            missing |= torch.isin(cells, excluded[0] * num_keys + excluded[1])
        scores = (self._keys[found.clamp_min(0)] * queries.unsqueeze(1)).sum(-1).masked_fill_(missing, -torch.inf)
        best = found.gather(1, scores.argsort(dim=1, descending=True, stable=True)[:, :top_k])
        short = (~missing).sum(1) < top_k
        if short.any():
            pairs = None
            if excluded is not None:
                inside = short[excluded[0]]
                pairs = (short.cumsum(0) - 1)[excluded[0][inside]], excluded[1][inside]
            best[short] = self._exact.search(queries[short], top_k, pairs, num_candidates)
        return best

    def search_one(
        self, query: Tensor, top_k: int, excluded: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Approximate top-k keys of one query on the CPU and their scores; see `InnerProductSearch.search_one`."""
        num_excluded = 0 if excluded is None else len(excluded)
        vector = np.zeros((1, self.index.d), np.float32)
        vector[0, : query.shape[1]] = query.numpy()[0]
        found = self.index.search(vector, min(len(self._keys), top_k + num_excluded))[1][0]
        valid = found >= 0
        if excluded is not None:
            valid &= ~np.isin(found, excluded)
        found = found[valid]
        if len(found) < top_k:
            return self._exact.search_one(query, top_k, excluded)
        scores = torch.from_numpy(self._keys.numpy().take(found, 0)).mul_(query).sum(-1).numpy()
        order = np.argsort(-scores, kind="stable")[:top_k]
        return found[order], scores[order]

    def _set_effort(self, effort: int) -> None:
        if self.kind == "ivf":
            self.index.nprobe = effort
        elif self.kind == "hnsw":
            self.index.hnsw.efSearch = effort
