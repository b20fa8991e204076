"""Token search by FAISS on one NVIDIA GPU."""

import contextlib
import importlib.util
from typing import Protocol

import torch
from torch import Tensor

from face_lightning.errors import MissingDependencyError
from face_lightning.imports import import_optional

_MAX_K = 2048  # limit of FAISS on GPUs
_TEMPORARY_MEMORY = 64 * 2**20  # bytes; by default FAISS reserves 18 % of the GPU's memory, up to 1.5 GiB


class _Search(Protocol):
    def refresh(self, codes: Tensor) -> None: ...

    def search(self, queries: Tensor, top_k: int) -> Tensor: ...


def has_faiss_gpu() -> bool:
    """Whether the installed faiss supports GPUs and finds one."""
    if importlib.util.find_spec("faiss") is None:
        return False
    import faiss

    return hasattr(faiss, "StandardGpuResources") and faiss.get_num_gpus() > 0


class FaissGpuSearch:
    """Exact inner-product search by FAISS on the GPU that holds the codes.

    Uses brute-force search without an index, which reads the tensor of codes directly, so that `refresh` neither
    copies nor allocates; a flat index would free and allocate its memory on every refresh. In a distributed run each
    process searches on its own GPU.

    Args:
        tiles: Exact search that resolves ties at rank K, and is used if K exceeds the limit of FAISS.

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
        import_optional("faiss.contrib.torch_utils", extra="gpu", purpose=purpose)  # makes FAISS accept tensors
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
        count = min(top_k + 1, len(self._codes))  # one more result reveals a tie at rank K
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
        tokens, order = tokens.sort(dim=1)  # FAISS returns equal scores in any order
        scores, order = scores.gather(1, order).sort(dim=1, descending=True, stable=True)
        best: Tensor = tokens.gather(1, order)[:, :top_k]
        if count > top_k:
            tied = (scores[:, top_k - 1] == scores[:, top_k]).nonzero().squeeze(1)
            if len(tied):
                best[tied] = self._tiles.search(queries[tied], top_k)
        return best
