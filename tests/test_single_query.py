"""Tests of single-query search against a stable sort of exact scores, for rough scores of every kind."""

import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from face_lightning import single_query
from face_lightning.inner_product import InnerProductSearch

KINDS = {
    "few values": lambda size: torch.randint(-2, 3, size).float(),  # many ties, also at rank K
    "normal": torch.randn,
    "near ties": lambda size: 1 + 1e-5 * torch.randn(size),  # float16 makes them ties
    "zero": torch.zeros,
    "beyond float16": lambda size: 1e5 * torch.randn(size),
    "small": lambda size: 1e-30 * torch.randn(size),
    "far apart": lambda size: torch.randn(size) * torch.logspace(-12, 12, size[0]).unsqueeze(1),
}


def naive(keys: Tensor, query: Tensor, top_k: int, excluded: list[int]) -> tuple[list[int], Tensor]:
    scores = (keys * query).sum(-1)
    scores[excluded] = -torch.inf
    order = sorted(range(len(keys)), key=lambda key: (-float(scores[key]), key))[:top_k]
    return order, scores[order]


def scanning(keys: Tensor, patch: pytest.MonkeyPatch) -> InnerProductSearch:
    pytest.importorskip("faiss")
    patch.setattr(single_query, "_SCANNED", range(2**23))
    search = InnerProductSearch(keys)
    search.prepare()
    return search


@given(
    st.sampled_from(sorted(KINDS)), st.integers(1, 60), st.integers(1, 40), st.integers(1, 12), st.booleans(), st.data()
)
@pytest.mark.filterwarnings("error")
def test_ranking_equals_a_stable_sort(
    kind: str, num_keys: int, dim: int, top_k: int, scan: bool, data: st.DataObject
) -> None:
    torch.manual_seed(data.draw(st.integers(0, 99)))
    keys, queries, top_k = KINDS[kind]((num_keys, dim)), KINDS[kind]((3, dim)), min(top_k, num_keys)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(single_query, "_MARGIN", 2)
        search = scanning(keys, patch) if scan else InnerProductSearch(keys)
        for query in queries.split(1):
            excluded = sorted(data.draw(st.sets(st.integers(0, num_keys - 1), max_size=num_keys - 1)))
            found, scores = search.search_one(query, top_k, np.array(excluded, np.int64))
            expected, values = naive(keys, query, top_k, excluded)
            assert found.tolist() == expected
            assert torch.equal(torch.from_numpy(scores), values)


@pytest.mark.parametrize("case", ["rounded keys", "float32 keys", "scan"])
def test_single_query_equals_batched_search(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(single_query, "_MIN_ROUNDED", 0 if case == "rounded keys" else 2**20)
    keys = torch.randn(700, 8, generator=torch.Generator().manual_seed(0)).round(decimals=1)  # with ties
    keys[300:310] = keys[20:30]
    search = scanning(keys, monkeypatch) if case == "scan" else InnerProductSearch(keys)
    queries = keys[:40]
    for num_excluded in (0, 3, 695):
        excluded = torch.arange(40).repeat_interleave(num_excluded), torch.arange(num_excluded).repeat(40)
        together = search.search(queries, 10, excluded)
        for query, expected in zip(queries.split(1), together, strict=True):
            found, scores = search.search_one(query, 10, np.arange(num_excluded))
            count = min(10, 700 - num_excluded)
            assert found.tolist() == expected.tolist()
            assert torch.equal(torch.from_numpy(scores)[:count], (keys[expected] * query).sum(-1)[:count])
            assert np.isneginf(scores[count:]).all()


def test_scan_proves_most_rankings_and_no_wrong_one(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = torch.randn(3000, 32, generator=torch.Generator().manual_seed(0))
    queries = torch.randn(50, 32, generator=torch.Generator().manual_seed(1))
    search = scanning(keys, monkeypatch)
    assert search._single._scan is not None
    expected = [naive(keys, query, 20, [])[0] for query in queries.split(1)]
    products = []
    monkeypatch.setattr(torch, "mv", lambda *factors: products.append(1) or (factors[0] @ factors[1]))
    assert [search.search_one(query, 20)[0].tolist() for query in queries.split(1)] == expected
    assert len(products) < 5  # searches that computed the scores of all keys


@pytest.mark.parametrize("query", [float("nan"), float("inf")])
def test_a_query_that_is_not_finite_is_not_scanned(query: float, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = torch.randn(300, 4, generator=torch.Generator().manual_seed(0))
    search, plain = scanning(keys, monkeypatch), InnerProductSearch(keys)
    vector = torch.full((1, 4), query)
    assert np.array_equal(search.search_one(vector, 9)[0], plain.search_one(vector, 9)[0])


def test_no_scan_without_faiss_or_for_large_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = torch.randn(300, 4, generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr(single_query, "_SCANNED", range(1200))
    large = InnerProductSearch(keys)
    large.prepare()
    monkeypatch.setattr(single_query, "_SCANNED", range(2000))
    monkeypatch.setitem(sys.modules, "faiss", None)
    missing = InnerProductSearch(keys)
    missing.prepare()
    assert large._single._scan is None
    assert missing._single._scan is None
    assert missing.search_one(keys[:1], 1)[0].tolist() == naive(keys, keys[:1], 1, [])[0]


def test_autocast_does_not_change_the_ranking() -> None:
    keys = torch.randn(120_000, 8, generator=torch.Generator().manual_seed(0))
    search = InnerProductSearch(keys)
    expected = [search.search_one(query, 20)[0].tolist() for query in keys[:200].split(1)]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert [search.search_one(query, 20)[0].tolist() for query in keys[:200].split(1)] == expected
