"""Search by FAISS indices, compared to exact search."""

import pytest
import torch

from face_lightning.inner_product import InnerProductSearch
from face_lightning.recommending import index_search
from face_lightning.recommending.index_search import IndexSearch

GENERATOR = torch.Generator().manual_seed(0)
KEYS = torch.randn(2000, 16, generator=GENERATOR)
QUERIES = torch.randn(40, 16, generator=GENERATOR)


@pytest.fixture(scope="module", params=["hnsw", "ivf"])
def search(request: pytest.FixtureRequest) -> IndexSearch:
    return IndexSearch(KEYS, request.param)


def overlap(found: torch.Tensor, exact: torch.Tensor) -> float:
    pairs = zip(found.tolist(), exact.tolist(), strict=True)
    return sum(len(set(one) & set(other)) for one, other in pairs) / exact.numel()


def test_the_reported_recall_is_correct(search: IndexSearch) -> None:
    reported = search.tune(QUERIES, 0.95, top_k=10)
    found, exact = search.search(QUERIES, 10), InnerProductSearch(KEYS).search(QUERIES, 10)
    assert reported == pytest.approx(overlap(found, exact))
    assert reported >= 0.95
    scores = (KEYS[found] * QUERIES.unsqueeze(1)).sum(-1)
    assert (scores.diff(dim=1) <= 0).all()


def test_excluded_keys_are_replaced_by_the_next_best(search: IndexSearch) -> None:
    search.tune(QUERIES, 1.0)
    exact = InnerProductSearch(KEYS)
    best = exact.search(QUERIES, 30)
    rows = torch.arange(0, 40, 2).repeat_interleave(30)
    excluded = rows, best[::2].flatten()
    found = search.search(QUERIES, 20, excluded)
    assert overlap(found, exact.search(QUERIES, 20, excluded)) > 0.98
    assert not (found[::2].unsqueeze(2) == best[::2].unsqueeze(1)).any()


def test_queries_with_too_few_results_are_searched_exactly() -> None:
    search = IndexSearch(KEYS, "ivf")  # with nprobe 1 it sees a list of about 40 keys
    assert torch.equal(search.search(QUERIES, 1000), InnerProductSearch(KEYS).search(QUERIES, 1000))
    rows = torch.zeros(1990, dtype=torch.long)
    found = search.search(QUERIES[:2], 20, (rows, torch.arange(1990)))
    assert set(found[0, :10].tolist()) == set(range(1990, 2000))


def test_single_query_equals_batched_index_search(search: IndexSearch) -> None:
    search.tune(QUERIES, 0.95, top_k=10)
    excluded = search.search(QUERIES, 3).flatten()
    together = search.search(QUERIES, 10, (torch.arange(40).repeat_interleave(3), excluded))
    for query, own, expected in zip(QUERIES.split(1), excluded.split(3), together, strict=True):
        found, scores = search.search_one(query, 10, own.numpy())
        assert found.tolist() == expected.tolist()
        assert torch.equal(torch.from_numpy(scores), (KEYS[expected] * query).sum(-1))


def test_graphs_of_large_tables_are_built_with_less_effort(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_search, "_LARGE", 1999)
    large, small = IndexSearch(KEYS, "hnsw"), IndexSearch(KEYS[:1999], "hnsw")
    assert large.index.hnsw.efConstruction < small.index.hnsw.efConstruction
    assert large.index.hnsw.nb_neighbors(1) < small.index.hnsw.nb_neighbors(1)
    assert large.tune(QUERIES, 0.95) >= 0.95
