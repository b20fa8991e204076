"""Tests of the search by FAISS on a GPU with a fake FAISS that follows its documentation.

They verify how FAISS is called and how its results are processed; tests/device verifies FAISS itself.
"""

import importlib.util
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from face_lightning.errors import MissingDependencyError
from face_lightning.mapping import gpu_search
from face_lightning.mapping.gpu_search import FaissGpuSearch, has_faiss_gpu
from face_lightning.mapping.search import TorchSearch, build_search, search_distinct


class StandInFaiss(ModuleType):
    """`knn_gpu` as documented, with equal scores in the most adverse order: the highest token first."""

    METRIC_INNER_PRODUCT = 0

    def __init__(self, num_gpus: int = 1) -> None:
        super().__init__("faiss")
        self.num_gpus = num_gpus
        self.calls: list[SimpleNamespace] = []
        self.temporary_memory: list[int] = []
        memory = self.temporary_memory
        self.StandardGpuResources = lambda: SimpleNamespace(setTempMemory=memory.append)

    def get_num_gpus(self) -> int:
        return self.num_gpus

    def knn_gpu(self, resources: Any, queries: Tensor, codes: Tensor, k: int, metric: int, device: int) -> Any:
        assert k <= 2048, "limit of FAISS"
        assert queries.dtype == codes.dtype == torch.float32
        assert queries.is_contiguous()
        assert codes.is_contiguous()
        self.calls.append(SimpleNamespace(codes=codes, k=k, device=device))
        scores, flipped = (queries @ codes.T).flip(1).sort(dim=1, descending=True, stable=True)
        return scores[:, :k].contiguous(), len(codes) - 1 - flipped[:, :k]


@pytest.fixture
def faiss(monkeypatch: pytest.MonkeyPatch) -> StandInFaiss:
    module = StandInFaiss()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    for name in ("faiss", "faiss.contrib", "faiss.contrib.torch_utils"):
        monkeypatch.setitem(sys.modules, name, module)
    return module


def small_integers(rows: int, dim: int, seed: int) -> Tensor:
    """Vectors with exact products, many of them equal."""
    return torch.randint(-1, 2, (rows, dim), generator=torch.Generator().manual_seed(seed)).float()


@given(st.integers(1, 30), st.integers(1, 90), st.integers(1, 99), st.integers(0, 2**31))
def test_ties_are_those_of_a_stable_sort(num_queries: int, num_codes: int, top_k: int, seed: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        module = StandInFaiss()
        for name in ("faiss", "faiss.contrib", "faiss.contrib.torch_utils"):
            patch.setitem(sys.modules, name, module)
        search = FaissGpuSearch(TorchSearch())
    codes, queries = small_integers(num_codes, 3, seed), small_integers(num_queries, 3, seed + 1)
    search.refresh(codes)
    expected = (queries @ codes.T).sort(dim=1, descending=True, stable=True).indices[:, :top_k]
    assert torch.equal(search.search(queries, top_k), expected)


def test_distinct_tokens_are_those_of_torch_tiles(faiss: StandInFaiss) -> None:
    codes, queries = small_integers(40, 4, 0), small_integers(60, 4, 1).view(10, 6, 4)
    found = []
    for search in (FaissGpuSearch(TorchSearch()), TorchSearch()):
        search.refresh(codes)
        found.append(search_distinct(search, queries))
    assert torch.equal(*found)


def test_refresh_neither_copies_nor_reallocates_resources(faiss: StandInFaiss) -> None:
    search, codes = FaissGpuSearch(TorchSearch()), torch.randn(30, 8)
    for _ in range(3):
        search.refresh(codes)
        search.search(torch.randn(5, 8), 2)
    assert [call.codes.data_ptr() for call in faiss.calls] == 3 * [codes.data_ptr()]
    assert faiss.temporary_memory == [64 * 2**20]


def test_k_above_the_limit_of_faiss_uses_tiles(faiss: StandInFaiss) -> None:
    codes, queries = torch.randn(2100, 4), torch.randn(3, 4)
    search = FaissGpuSearch(TorchSearch())
    search.refresh(codes)
    expected = (queries @ codes.T).sort(dim=1, descending=True, stable=True).indices
    for top_k in (2047, 2048, 2100, 9999):
        assert torch.equal(search.search(queries, top_k), expected[:, :top_k])
    assert [call.k for call in faiss.calls] == [2048]


def test_auto_on_a_gpu_selects_faiss_with_gpu_support(faiss: StandInFaiss) -> None:
    cuda = torch.device("cuda", 0)
    assert isinstance(build_search("auto", cuda), FaissGpuSearch)
    assert isinstance(build_search("faiss", cuda), FaissGpuSearch)
    assert isinstance(build_search("torch", cuda), TorchSearch)
    faiss.num_gpus = 0
    assert isinstance(build_search("auto", cuda), TorchSearch)


def test_auto_on_a_gpu_selects_torch_without_faiss(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_search.importlib.util, "find_spec", lambda name: None)
    assert not has_faiss_gpu()
    assert isinstance(build_search("auto", torch.device("cuda")), TorchSearch)


def test_faiss_for_cpus_raises_on_a_gpu(faiss: StandInFaiss) -> None:
    del faiss.StandardGpuResources
    assert not has_faiss_gpu()
    with pytest.raises(MissingDependencyError, match=r"face-lightning\[gpu\]"):
        build_search("faiss", torch.device("cuda"))
