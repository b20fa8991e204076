"""Exact search for the tokens with the largest inner product."""

import importlib.util
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from face_lightning.imports import import_optional
from face_lightning.inner_product import InnerProductSearch, rank_items

SearchBackend = Literal["auto", "bfloat16", "faiss", "torch"]


class TokenSearch(Protocol):
    """Maximum inner-product search over the codebook; equal scores are ordered by the lowest token."""

    def refresh(self, codes: Tensor) -> None:
        """Take new codes `(V, d)`; those of before are forgotten."""

    def search(self, queries: Tensor, top_k: int) -> Tensor:
        """Tokens `(N, K)` int64, best first, of queries `(N, d)`."""


class TorchSearch:
    """Search by matrix products over tiles of queries, on the device of the codes.

    Args:
        tile_size: Scores held at once, in numbers; 2^22 are 16 MiB, about a processor's cache.
    """

    def __init__(self, tile_size: int = 2**22) -> None:
        self._tile_size = tile_size
        self._codes = torch.empty(0, 0)

    def refresh(self, codes: Tensor) -> None:
        """See `TokenSearch`."""
        self._codes = codes.detach()

    def search(self, queries: Tensor, top_k: int) -> Tensor:
        """See `TokenSearch`."""
        rows = max(1, self._tile_size // len(self._codes))
        tiles = [_best(tile @ self._codes.T, top_k) for tile in queries.detach().split(rows)]
        return torch.cat(tiles)


def _best(scores: Tensor, top_k: int) -> Tensor:
    return scores.argmax(1, keepdim=True) if top_k == 1 else rank_items(scores, top_k)


class RoundedSearch:
    """Search by products in bfloat16, and by exact ones among the candidates that they leave.

    Args:
        tile_size: Scores held at once, in numbers; 2^22 are 8 MiB.
    """

    def __init__(self, tile_size: int = 2**22) -> None:
        self._tile_size = tile_size
        self._codes = torch.empty(0, 0)

    def refresh(self, codes: Tensor) -> None:
        """See `TokenSearch`."""
        self._codes = codes.detach()

    def search(self, queries: Tensor, top_k: int) -> Tensor:
        """See `TokenSearch`."""
        search = InnerProductSearch(self._codes, num_candidates=top_k + 7)
        rows = max(1, self._tile_size // len(self._codes))
        return torch.cat([search.search(tile, top_k) for tile in queries.detach().split(rows)])


class FaissSearch:
    """Search by a FAISS inner-product index over exact vectors, on the CPU or on one GPU.

    The index is filled anew by `refresh`, in the memory that it has.

    Raises:
        MissingDependencyError: If faiss is not installed.
    """

    def __init__(self) -> None:
        self._faiss = import_optional("faiss", extra="cpu", purpose="token search with backend 'faiss'")
        self._index: Any = None
        self._ties = TorchSearch()
        self._device = torch.device("cpu")

    def refresh(self, codes: Tensor) -> None:
        """See `TokenSearch`."""
        codes = codes.detach().float()
        self._ties.refresh(codes)
        if self._index is None or self._index.d != codes.shape[1] or self._device != codes.device:
            self._device = codes.device
            self._index = self._faiss.IndexFlatIP(codes.shape[1])
            if codes.device.type == "cuda":
                resources = self._faiss.StandardGpuResources()
                resources.setTempMemory(64 * 2**20)
                self._index = self._faiss.index_cpu_to_gpu(resources, codes.device.index or 0, self._index)
        self._index.reset()
        self._index.add(_array(codes))

    def search(self, queries: Tensor, top_k: int) -> Tensor:
        """See `TokenSearch`."""
        assert self._index is not None, "refresh comes first"
        array = _array(queries.detach().float())
        if top_k == 1:  # of equal scores FAISS keeps the lowest token
            return torch.from_numpy(self._index.search(array, 1)[1]).to(queries.device)
        scores, tokens = self._index.search(array, min(top_k + 1, self._index.ntotal))
        order = np.lexsort((tokens, -scores), axis=1)[:, :top_k]  # equal scores come in any order
        best = torch.from_numpy(np.take_along_axis(tokens, order, axis=1)).to(queries.device)
        # A tie across the cut: any of the equal tokens may have been kept.
        torn = np.flatnonzero((scores[:, top_k - 1 : top_k] == scores[:, top_k:]).any(axis=1))
        if torn.size:
            rows = torch.from_numpy(torn).to(queries.device)
            best[rows] = self._ties.search(queries[rows].float(), top_k)
        return best


def _array(vectors: Tensor) -> np.ndarray:
    return np.ascontiguousarray(vectors.cpu().numpy())


def build_search(backend: SearchBackend, device: torch.device | None = None) -> TokenSearch:
    """The search of that name.

    Args:
        backend: "torch", "bfloat16", "faiss", or "auto": FAISS on the CPU where it is installed, where it is the faster
            one, and torch tiles everywhere else; the answers are the same.
        device: Where codes and queries will be; the CPU if not given.
    """
    if backend == "bfloat16":
        return RoundedSearch()
    on_cpu = device is None or device.type == "cpu"
    if backend == "faiss" or (backend == "auto" and on_cpu and importlib.util.find_spec("faiss") is not None):
        return FaissSearch()
    return TorchSearch()


def search_distinct(search: TokenSearch, queries: Tensor) -> Tensor:
    """Tokens of every slot, no token twice in an entity: slots choose in turn among what is left.

    One search for the best token settles every entity whose slots already disagree; only the others are
    searched for their S best tokens, which is enough for a greedy choice of S.

    Args:
        search: Search over at least S codes.
        queries: Query of every slot, `(B, S, d)`.

    Returns:
        Tokens `(B, S)`.
    """
    num_rows, num_slots, dim = queries.shape
    tokens = search.search(queries.reshape(-1, dim), 1).view(num_rows, num_slots)
    ordered = tokens.sort(dim=1).values
    clashing = (ordered[:, 1:] == ordered[:, :-1]).any(1).nonzero().squeeze(1)
    if clashing.numel():
        candidates = search.search(queries[clashing].reshape(-1, dim), num_slots)
        tokens[clashing] = pick_greedily(candidates.view(len(clashing), num_slots, num_slots))
    return tokens


def pick_greedily(candidates: Tensor) -> Tensor:
    """For each slot in turn its first candidate that no slot before it has picked.

    Args:
        candidates: Tokens of each slot, best first, `(B, S, K)` with K >= S and no token twice in a slot.

    Returns:
        Tokens `(B, S)`.
    """
    picked = candidates[:, :, 0].clone()
    for slot in range(1, candidates.shape[1]):
        taken = (candidates[:, slot, :, None] == picked[:, None, :slot]).any(-1)
        first = (~taken).int().argmax(1, keepdim=True)
        picked[:, slot] = candidates[:, slot].gather(1, first).squeeze(1)
    return picked
