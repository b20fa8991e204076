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

UNKNOWN = -1
_COLUMNS = 4096  # codes that the CPU searches together


class TokenSearch(Protocol):
    """Maximum inner-product search over the codebook; equal scores are ordered by the lowest token."""

    def refresh(self, codes: Tensor) -> None:
        """Take new codes `(V, d)`; those of before are forgotten."""

    def search(self, queries: Tensor, top_k: int) -> Tensor:
        """Tokens `(N, K)` int64, best first, of queries `(N, d)`."""


class TorchSearch:
    """Search by matrix products over tiles of queries and codes, on the device of the codes.

    Args:
        tile_size: Scores held at once, in numbers; by default 2^21 (8 MiB) on the CPU, where a tile stays in the
            cache, and 2^26 (256 MiB) elsewhere, where few large products are faster.
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
        # One buffer for all tiles: where results lie between buffers, an allocator cannot use their room again.
        rows = max(1, min(tile_size // num_columns, len(queries)))
        scores = queries.new_empty(rows * num_columns)
        return torch.cat([self._search_tile(tile, top_k, num_columns, scores) for tile in queries.split(rows)])

    def _search_tile(self, queries: Tensor, top_k: int, num_columns: int, buffer: Tensor) -> Tensor:
        """The best among the codes so far against the best of the next ones; of equal ones the first win."""
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
    """Values and columns of the best scores of each row, best first, equal ones by the lowest column."""
    if top_k == 1:
        values, columns = scores.max(1, keepdim=True)  # of equal ones it gives the first
        return values, columns
    columns = rank_items(scores, top_k)
    return scores.gather(1, columns), columns


class RoundedSearch:
    """Search by products in bfloat16, and by exact ones among the candidates that they leave.

    Args:
        tile_size: Scores held at once, in numbers; 2^23 are 16 MiB. No tile has less than 128 queries.
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
    """Search by a FAISS inner-product index over exact vectors, on the CPU.

    The index is filled anew by `refresh`, in the memory that it has.

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
        backend: "torch", "bfloat16", "faiss", or "auto", the fastest in `python -m benchmarks.token_search`: on
            processors that multiply bfloat16 in hardware "bfloat16", on other processors and on GPUs FAISS where it is
            installed for them, and torch tiles everywhere else; the answers are the same.
        device: Where codes and queries will be; the CPU if not given.
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
    """Tokens of every slot, no lemma twice in an entity: slots choose in turn among what is left.

    One search for the best token settles most slots. Only those whose best token another slot took before them
    are searched for S tokens, which is enough for a greedy choice of S unless these share lemmas; then as many are
    searched as are enough in any case.

    Args:
        search: Search over tokens of at least S lemmas.
        queries: Query of every slot, `(B, S, d)`.
        lemmas: Lemma of each token, `(V,)`; each token has its own if None.

    Returns:
        Tokens `(B, S)`.
    """
    num_rows, num_slots, dim = queries.shape
    tokens = search.search(queries.reshape(-1, dim), 1).view(num_rows, num_slots)
    ordered = _lemmas_of(tokens, lemmas).sort(dim=1).values
    clashing = (ordered[:, 1:] == ordered[:, :-1]).any(1).nonzero().squeeze(1)
    if clashing.numel():
        tokens[clashing] = _search_clashing(search, queries[clashing], tokens[clashing], lemmas)
    return tokens


def _search_clashing(search: TokenSearch, queries: Tensor, best: Tensor, lemmas: Tensor | None) -> Tensor:
    """Distinct tokens `(B, S)` of entities whose best tokens `(B, S)` are not."""
    num_rows, num_slots, dim = queries.shape
    candidates = best.new_full((num_rows, num_slots, num_slots), UNKNOWN)
    candidates[:, :, 0] = best
    picked = pick_greedily(candidates, lemmas)
    while (open_slots := (picked == UNKNOWN) & (candidates[:, :, -1] == UNKNOWN)).any():
        rows, slots = open_slots.nonzero(as_tuple=True)  # what these get may be the best of slots behind them
        candidates[rows, slots] = search.search(queries[rows, slots], num_slots)
        picked = pick_greedily(candidates, lemmas)
    rest = (picked == UNKNOWN).any(1).nonzero().squeeze(1)
    if rest.numel() and lemmas is not None:
        count = num_sufficient(lemmas, num_slots)
        candidates = search.search(queries[rest].reshape(-1, dim), count).view(len(rest), num_slots, count)
        picked[rest] = pick_greedily(candidates, lemmas)
    return picked


def num_sufficient(lemmas: Tensor, num_lemmas: int) -> int:
    """Number of tokens that hold at least `num_lemmas` different lemmas, whichever tokens they are.

    Args:
        lemmas: Lemma of each token, `(V,)`, of which there are at least `num_lemmas`.
        num_lemmas: Lemmas wanted.
    """
    sizes = torch.bincount(lemmas).sort(descending=True).values
    return int(sizes[: num_lemmas - 1].sum()) + 1


def pick_greedily(candidates: Tensor, lemmas: Tensor | None = None) -> Tensor:
    """For each slot in turn its first candidate whose lemma no slot before it has picked.

    Args:
        candidates: Tokens of each slot, best first, `(B, S, K)` with no token twice in a slot, and `UNKNOWN`
            where nobody has asked yet.
        lemmas: Lemma of each token, `(V,)`; each token has its own if None.

    Returns:
        Tokens `(B, S)`; `UNKNOWN` where all that is known of a slot is taken.
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
