"""Exact search for the tokens with the largest inner product."""

import importlib.util
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from face_lightning.hardware import has_bfloat16
from face_lightning.imports import import_optional
from face_lightning.inner_product import InnerProductSearch, rank_items
from face_lightning.mapping.gpu_search import FaissGpuSearch, has_faiss_gpu

SearchBackend = Literal["auto", "bfloat16", "faiss", "torch"]

UNKNOWN = -1  # placeholder for a token that was not searched yet
_COLUMNS = 4096  # codes per tile on the CPU


class TokenSearch(Protocol):
    """Maximum inner-product search over the codebook; ties are broken by the lowest token."""

    def refresh(self, codes: Tensor) -> None:
        """Replace the codes by `codes` `(V, d)`."""

    def search(self, queries: Tensor, top_k: int) -> Tensor:
        """Return the top tokens `(N, K)` int64, best first, for queries `(N, d)`."""


class TorchSearch:
    """Search by matrix products over tiles of queries and codes, on the device of the codes.

    Args:
        tile_size: Maximum number of scores held at once; by default 2^21 (8 MiB) on the CPU, so that a tile fits into
            the cache, and 2^26 (256 MiB) elsewhere, where few large products are faster.
    """

    def __init__(self, tile_size: int | None = None) -> None:
        self._tile_size = tile_size
        self._codes = torch.empty(0, 0)

    def refresh(self, codes: Tensor) -> None:
        """See `TokenSearch`."""
        self._codes = codes.detach() if codes.dtype == torch.float64 else codes.detach().float()

    def search(self, queries: Tensor, top_k: int) -> Tensor:
        """See `TokenSearch`."""
        queries, on_cpu = queries.detach().to(self._codes.dtype), queries.device.type == "cpu"
        tile_size = self._tile_size or (2**21 if on_cpu else 2**26)
        num_columns = min(_COLUMNS if on_cpu else 16 * _COLUMNS, len(self._codes), tile_size)
        # Reuse one buffer for all tiles: separate buffers, with results allocated between them, fragment the memory.
        rows = max(1, min(tile_size // num_columns, len(queries)))
        scores = queries.new_empty(rows * num_columns)
        return torch.cat([self._search_tile(tile, top_k, num_columns, scores) for tile in queries.split(rows)])

    def _search_tile(self, queries: Tensor, top_k: int, num_columns: int, buffer: Tensor) -> Tensor:
        """Search the codes tile by tile, merging each tile's best into the best so far; the first of equals wins."""
        best: tuple[Tensor, Tensor] | None = None
        for begin in range(0, len(self._codes), num_columns):
            codes = self._codes[begin : begin + num_columns]
            scores = buffer[: len(queries) * len(codes)].view(len(queries), len(codes))
            torch.mm(queries, codes.T, out=scores)
            values, tokens = _best(scores, top_k)
            tokens = tokens + begin
            if best is not None:
                values, tokens = torch.cat([best[0], values], dim=1), torch.cat([best[1], tokens], dim=1)
                values, order = _best(values, top_k)
                tokens = tokens.gather(1, order)
            best = values, tokens
        assert best is not None, "refresh comes first"
        return best[1]


def _best(scores: Tensor, top_k: int) -> tuple[Tensor, Tensor]:
    """Values and columns of the best scores of each row, best first; ties are broken by the lowest column."""
    if top_k == 1:
        values, columns = scores.max(1, keepdim=True)  # returns the first of equal scores
        return values, columns
    columns = rank_items(scores, top_k)
    return scores.gather(1, columns), columns


class RoundedSearch:
    """Search in bfloat16, with exact re-ranking of the candidates.

    Args:
        tile_size: Maximum number of scores held at once; 2^23 are 16 MiB. A tile has at least 128 queries.
    """

    def __init__(self, tile_size: int = 2**23) -> None:
        self._tile_size = tile_size
        self._codes: InnerProductSearch | None = None
        self._num_codes = 0

    def refresh(self, codes: Tensor) -> None:
        """See `TokenSearch`."""
        self._codes, self._num_codes = InnerProductSearch(codes.detach()), len(codes)

    def search(self, queries: Tensor, top_k: int) -> Tensor:
        """See `TokenSearch`."""
        assert self._codes is not None, "refresh comes first"
        tiles = queries.detach().split(max(128, self._tile_size // self._num_codes // 128 * 128))
        return torch.cat([self._codes.search(tile, top_k, num_candidates=top_k + top_k // 2 + 8) for tile in tiles])


class FaissSearch:
    """Search by a flat FAISS inner-product index on the CPU.

    `refresh` refills the index in place.

    Raises:
        MissingDependencyError: If faiss is not installed.
    """

    def __init__(self) -> None:
        self._faiss = import_optional("faiss", extra="cpu", purpose="token search with backend 'faiss'")
        self._index: Any = None
        self._ties = TorchSearch()

    def refresh(self, codes: Tensor) -> None:
        """See `TokenSearch`."""
        codes = codes.detach().float()
        self._ties.refresh(codes)
        if self._index is None or self._index.d != codes.shape[1]:
            self._index = self._faiss.IndexFlatIP(codes.shape[1])
        self._index.reset()
        self._index.add(_array(codes))

    def search(self, queries: Tensor, top_k: int) -> Tensor:
        """See `TokenSearch`."""
        assert self._index is not None, "refresh comes first"
        array = _array(queries.detach().float())
        if top_k == 1:  # FAISS returns the lowest token of equal scores
            return torch.from_numpy(self._index.search(array, 1)[1]).to(queries.device)
        scores, tokens = self._index.search(array, min(top_k + 1, self._index.ntotal))
        order = np.lexsort((tokens, -scores), axis=1)[:, :top_k]  # FAISS returns equal scores in any order
        best = torch.from_numpy(np.take_along_axis(tokens, order, axis=1)).to(queries.device)
        # With a tie at rank K, FAISS may have kept any of the equal tokens.
        tied = np.flatnonzero((scores[:, top_k - 1 : top_k] == scores[:, top_k:]).any(axis=1))
        if tied.size:
            rows = torch.from_numpy(tied).to(queries.device)
            best[rows] = self._ties.search(queries[rows].float(), top_k)
        return best


def _array(vectors: Tensor) -> np.ndarray:
    return np.ascontiguousarray(vectors.cpu().numpy())


def build_search(backend: SearchBackend, device: torch.device | None = None) -> TokenSearch:
    """Build a token search; all backends return the same tokens.

    Args:
        backend: "torch", "bfloat16", "faiss", or "auto", the fastest in `python -m benchmarks.token_search`:
            "bfloat16" on processors that multiply bfloat16 in hardware; on other processors and on GPUs FAISS if it is
            installed for them, else "torch".
        device: Device of codes and queries; the CPU if None.
    """
    on_cpu = device is None or device.type == "cpu"
    if backend == "auto" and on_cpu:
        exact: SearchBackend = "faiss" if importlib.util.find_spec("faiss") else "torch"
        backend = "bfloat16" if has_bfloat16(torch.device("cpu")) else exact
    if backend == "bfloat16":
        return RoundedSearch()
    if device is not None and device.type == "cuda" and (backend == "faiss" or (backend == "auto" and has_faiss_gpu())):
        return FaissGpuSearch(TorchSearch())
    return FaissSearch() if backend == "faiss" else TorchSearch()


def search_distinct(search: TokenSearch, queries: Tensor, lemmas: Tensor | None = None) -> Tensor:
    """Choose the tokens of all slots greedily, with different lemmas within an entity.

    Slots choose in order, each the best token whose lemma no earlier slot has. A top-1 search settles most slots.
    Slots in conflict with an earlier one are searched again for S tokens, which suffices unless tokens share lemmas;
    if it does not, for as many tokens as suffice in any case.

    Args:
        search: Search over tokens of at least S lemmas.
        queries: Query of each slot, `(B, S, d)`.
        lemmas: Lemma of each token, `(V,)`; if None, each token is its own lemma.

    Returns:
        Tokens `(B, S)`.
    """
    num_rows, num_slots, dim = queries.shape
    tokens = search.search(queries.reshape(-1, dim), 1).view(num_rows, num_slots)
    ordered = _lemmas_of(tokens, lemmas).sort(dim=1).values
    conflicting = (ordered[:, 1:] == ordered[:, :-1]).any(1).nonzero().squeeze(1)
    if conflicting.numel():
        tokens[conflicting] = _resolve_conflicts(search, queries[conflicting], tokens[conflicting], lemmas)
    return tokens


def _resolve_conflicts(search: TokenSearch, queries: Tensor, best: Tensor, lemmas: Tensor | None) -> Tensor:
    """Choose tokens `(B, S)` of different lemmas for entities whose best tokens `(B, S)` share lemmas."""
    num_rows, num_slots, dim = queries.shape
    candidates = best.new_full((num_rows, num_slots, num_slots), UNKNOWN)
    candidates[:, :, 0] = best
    picked = pick_greedily(candidates, lemmas)
    while (open_slots := (picked == UNKNOWN) & (candidates[:, :, -1] == UNKNOWN)).any():
        rows, slots = open_slots.nonzero(as_tuple=True)  # their new tokens may conflict with later slots
        candidates[rows, slots] = search.search(queries[rows, slots], num_slots)
        picked = pick_greedily(candidates, lemmas)
    rest = (picked == UNKNOWN).any(1).nonzero().squeeze(1)
    if rest.numel() and lemmas is not None:
        count = num_sufficient(lemmas, num_slots)
        candidates = search.search(queries[rest].reshape(-1, dim), count).view(len(rest), num_slots, count)
        picked[rest] = pick_greedily(candidates, lemmas)
    return picked


def num_sufficient(lemmas: Tensor, num_lemmas: int) -> int:
    """Smallest number of tokens that is certain to contain `num_lemmas` different lemmas.

    Args:
        lemmas: Lemma of each token, `(V,)`, at least `num_lemmas` different ones.
        num_lemmas: Number of lemmas.
    """
    sizes = torch.bincount(lemmas).sort(descending=True).values
    return int(sizes[: num_lemmas - 1].sum()) + 1


def pick_greedily(candidates: Tensor, lemmas: Tensor | None = None) -> Tensor:
    """Pick for each slot, in order, its first candidate whose lemma no earlier slot has picked.

    Args:
        candidates: Distinct candidate tokens of each slot, best first, `(B, S, K)`; `UNKNOWN` if not searched yet.
        lemmas: Lemma of each token, `(V,)`; if None, each token is its own lemma.

    Returns:
        Tokens `(B, S)`; `UNKNOWN` if all known candidates of a slot are taken.
    """
    groups = _lemmas_of(candidates, lemmas)
    picked, picked_groups = candidates[:, :, 0].clone(), groups[:, :, 0].clone()
    for slot in range(1, candidates.shape[1]):
        own = groups[:, slot]
        taken = (own[:, :, None] == picked_groups[:, None, :slot]).any(-1) & (own != UNKNOWN)
        first = (~taken).int().argmax(1, keepdim=True)
        exhausted = taken.all(1)
        picked[:, slot] = candidates[:, slot].gather(1, first).squeeze(1).masked_fill(exhausted, UNKNOWN)
        picked_groups[:, slot] = own.gather(1, first).squeeze(1).masked_fill(exhausted, UNKNOWN)
    return picked


def _lemmas_of(tokens: Tensor, lemmas: Tensor | None) -> Tensor:
    return tokens if lemmas is None else lemmas[tokens].masked_fill(tokens == UNKNOWN, UNKNOWN)
