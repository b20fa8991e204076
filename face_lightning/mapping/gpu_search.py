"""Token search by FAISS on one NVIDIA GPU."""

import contextlib
import importlib.util
from typing import Protocol

import torch
from torch import Tensor

from face_lightning.errors import MissingDependencyError
from face_lightning.imports import import_optional

_MAX_K = 2048  # of FAISS on a GPU
_TEMPORARY_MEMORY = 64 * 2**20  # bytes; by default FAISS reserves 18 % of the GPU's memory, up to 1.5 GiB


class _Search(Protocol):
    def refresh(self, codes: Tensor) -> None: ...

    def search(self, queries: Tensor, top_k: int) -> Tensor: ...


def has_faiss_gpu() -> bool:
    """Tell whether the installed faiss was built for GPUs, and finds one."""
    if importlib.util.find_spec("faiss") is None:
        return False
    import faiss

    return hasattr(faiss, "StandardGpuResources") and faiss.get_num_gpus() > 0


class FaissGpuSearch:
    """Exact inner-product search by FAISS over the codes where they lie, on their GPU.

    A flat index frees its memory when it is reset and allocates it again when codes are added. FAISS's search without
    an index reads the tensor of codes itself instead: `refresh` neither copies nor allocates. In a distributed run
    each process searches on its own GPU.

    Args:
        tiles: Exact search that settles ties across the cut, and answers where K is larger than FAISS allows.

    Raises:
        MissingDependencyError: If faiss is not installed, or not built for GPUs.
    """

    def __init__(self, tiles: _Search) -> None:
        purpose = "token search with backend 'faiss' on a GPU"
        self._faiss = import_optional("faiss", extra="gpu", purpose=purpose)
        if not hasattr(self._faiss, "StandardGpuResources"):
            raise MissingDependencyError(
                f"{purpose}: expected faiss with GPU support, but the installed one is built for CPUs; uninstall "
                "faiss-cpu and install it with: pip install 'face-lightning[gpu]', or set search to torch"
            )
        import_optional("faiss.contrib.torch_utils", extra="gpu", purpose=purpose)  # lets FAISS take tensors
        self._resources = self._faiss.StandardGpuResources()
        self._resources.setTempMemory(_TEMPORARY_MEMORY)
        self._tiles = tiles
        self._codes = torch.empty(0, 0)

    def refresh(self, codes: Tensor) -> None:
        """See `TokenSearch`."""
        self._codes = codes.detach().float().contiguous()
        self._tiles.refresh(self._codes)

    def search(self, queries: Tensor, top_k: int) -> Tensor:
        """See `TokenSearch`."""
        queries, top_k = queries.detach().float().contiguous(), min(top_k, len(self._codes))
        count = min(top_k + 1, len(self._codes))  # one more than wanted tells where a tie crosses the cut
        if count > _MAX_K:
            return self._tiles.search(queries, top_k)
        device = self._codes.device
        with torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext():
            scores, tokens = self._faiss.knn_gpu(
                self._resources,
                queries,
                self._codes,
                count,
                metric=self._faiss.METRIC_INNER_PRODUCT,
                device=device.index or 0,
            )
        tokens, order = tokens.sort(dim=1)  # equal scores come in any order
        scores, order = scores.gather(1, order).sort(dim=1, descending=True, stable=True)
        best: Tensor = tokens.gather(1, order)[:, :top_k]
        if count > top_k:
            torn = (scores[:, top_k - 1] == scores[:, top_k]).nonzero().squeeze(1)
            if len(torn):
                best[torn] = self._tiles.search(queries[torn], top_k)
        return best
