"""Tests of the token search: all backends, tile sizes, and distinct tokens."""

import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from face_lightning.errors import MissingDependencyError
from face_lightning.mapping.search import (
    FaissSearch,
    RoundedSearch,
    TorchSearch,
    build_search,
    num_sufficient,
    pick_greedily,
    search_distinct,
)


def vectors(rows: int, dim: int, seed: int) -> Tensor:
    return torch.randn(rows, dim, generator=torch.Generator().manual_seed(seed))


def small_integers(rows: int, dim: int, seed: int) -> Tensor:
    """Vectors with exact products, many of them equal."""
    return torch.randint(-1, 2, (rows, dim), generator=torch.Generator().manual_seed(seed)).float()


@pytest.mark.parametrize("num_queries", [3, 50])  # FAISS has another path for few queries
@pytest.mark.parametrize("top_k", [1, 4, 300, 400])
def test_all_backends_give_the_same_tokens(top_k: int, num_queries: int) -> None:
    codes, queries = vectors(300, 16, 0), vectors(num_queries, 16, 1)
    expected = (queries @ codes.T).sort(dim=1, descending=True, stable=True).indices[:, :top_k]
    for search in (TorchSearch(), FaissSearch(), RoundedSearch()):
        search.refresh(codes)
        assert torch.equal(search.search(queries, top_k), expected)


@pytest.mark.parametrize("search", [TorchSearch(), FaissSearch(), RoundedSearch()], ids=["torch", "faiss", "bfloat16"])
def test_refresh_replaces_the_codes(search) -> None:
    search.refresh(vectors(40, 8, 0))
    codes = vectors(25, 8, 2)
    search.refresh(codes)
    queries = vectors(9, 8, 3)
    assert torch.equal(search.search(queries, 1).squeeze(1), (queries @ codes.T).argmax(1))


@pytest.mark.parametrize("search", [TorchSearch(), FaissSearch(), RoundedSearch()], ids=["torch", "faiss", "bfloat16"])
def test_equal_codes_are_ordered_by_the_lowest_token(search) -> None:
    search.refresh(torch.tensor([[0.0, 1.0], [1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]))
    for top_k in range(1, 5):  # rank K also falls between equal codes
        assert search.search(torch.tensor([[1.0, 0.5]]), top_k).tolist() == [[1, 2, 0, 3][:top_k]]


@pytest.mark.parametrize("search", [TorchSearch(), FaissSearch(), RoundedSearch()], ids=["torch", "faiss", "bfloat16"])
@given(st.integers(1, 40), st.integers(1, 200), st.integers(1, 120), st.integers(0, 2**31))
def test_ties_equal_a_stable_sort(search, num_queries: int, num_codes: int, top_k: int, seed: int) -> None:
    codes, queries = small_integers(num_codes, 3, seed), small_integers(num_queries, 3, seed + 1)
    search.refresh(codes)
    expected = (queries @ codes.T).sort(dim=1, descending=True, stable=True).indices[:, :top_k]
    assert torch.equal(search.search(queries, top_k), expected)


@pytest.mark.parametrize("tile_size", [1, 100, 10**6])
def test_tiles_change_nothing(tile_size: int) -> None:
    codes, queries = vectors(60, 8, 0), vectors(31, 8, 1)
    search = TorchSearch(tile_size)
    search.refresh(codes)
    assert torch.equal(search.search(queries, 3), (queries @ codes.T).topk(3).indices)


@pytest.mark.parametrize("draw", [vectors, small_integers])
@pytest.mark.parametrize("search", [TorchSearch(), TorchSearch(10), FaissSearch()], ids=["torch", "tiles", "faiss"])
@given(st.integers(1, 5), st.integers(1, 5), st.integers(5, 8), st.integers(0, 2**31), st.sampled_from([0.0, 3.0]))
def test_distinct_search_equals_masking_the_whole_matrix(
    search, draw, num_rows: int, num_slots: int, num_codes: int, seed: int, common: float
) -> None:
    codes = draw(num_codes, 4, seed)
    queries = draw(num_rows * num_slots, 4, seed + 1).view(num_rows, num_slots, 4) + common  # common: conflicts
    search.refresh(codes)
    scores = queries @ codes.T
    expected = torch.zeros(num_rows, num_slots, dtype=torch.long)
    for slot in range(num_slots):
        expected[:, slot] = scores[:, slot].argmax(1)
        scores.scatter_(2, expected[:, slot, None, None].expand(-1, num_slots, 1), -torch.inf)
    assert torch.equal(search_distinct(search, queries), expected)
    assert all(len(set(row)) == num_slots for row in expected.tolist())


@pytest.mark.parametrize("search", [TorchSearch(), FaissSearch(), RoundedSearch()], ids=["torch", "faiss", "bfloat16"])
@given(st.integers(1, 5), st.integers(1, 5), st.integers(0, 2**31), st.sampled_from([0.0, 3.0]))
def test_distinct_lemmas_equal_masking_their_words(
    search, num_rows: int, num_slots: int, seed: int, common: float
) -> None:
    lemmas = torch.tensor([0, 1, 1, 1, 1, 2, 3, 3, 3, 4])
    codes = vectors(10, 4, seed)
    queries = vectors(num_rows * num_slots, 4, seed + 1).view(num_rows, num_slots, 4) + common
    search.refresh(codes)
    scores = queries @ codes.T
    expected = torch.zeros(num_rows, num_slots, dtype=torch.long)
    for row in range(num_rows):
        for slot in range(num_slots):
            expected[row, slot] = best = scores[row, slot].argmax()
            scores[row, :, lemmas == lemmas[best]] = -torch.inf
    found = search_distinct(search, queries, lemmas)
    assert torch.equal(found, expected)
    assert all(len(set(row)) == num_slots for row in lemmas[found].tolist())


@pytest.mark.parametrize(("num_lemmas", "expected"), [(1, 1), (2, 4), (3, 6)])
def test_num_sufficient_holds_enough_lemmas_in_the_worst_case(num_lemmas: int, expected: int) -> None:
    assert num_sufficient(torch.tensor([5, 0, 0, 1, 1, 1, 5]).unique(return_inverse=True)[1], num_lemmas) == expected


def test_greedy_choice_by_hand() -> None:
    candidates = torch.tensor([[[5, 1, 2], [5, 1, 2], [1, 5, 3]]])
    assert pick_greedily(candidates).tolist() == [[5, 1, 3]]


def test_greedy_choice_marks_slots_without_a_free_candidate() -> None:
    candidates = torch.tensor([[[5, -1, -1], [5, -1, -1], [5, -1, -1], [4, -1, -1]]])
    assert pick_greedily(candidates).tolist() == [[5, -1, -1, 4]]
    lemmas = torch.tensor([0, 1, 2, 3, 0, 0])  # tokens 0, 4 and 5 share a lemma
    assert pick_greedily(candidates, lemmas).tolist() == [[5, -1, -1, -1]]


def test_slots_without_conflict_are_searched_once() -> None:
    search, asked = TorchSearch(), []
    search.refresh(torch.eye(5))

    class Counted:
        def search(self, queries: Tensor, top_k: int) -> Tensor:
            asked.append((queries.argmax(1).tolist(), top_k))
            return search.search(queries, top_k)

    likes = [[9.0, 8, 0, 0, 0], [9, 8, 7, 0, 0], [0, 9, 0, 8, 0]]  # best: 0, 0 and 1; slot 1 takes 1 before slot 2
    queries = torch.tensor([likes, torch.eye(5)[:3].tolist()])
    assert search_distinct(Counted(), queries).tolist() == [[0, 1, 3], [0, 1, 2]]  # type: ignore[arg-type]
    assert asked == [([0, 0, 1, 0, 1, 2], 1), ([0], 3), ([1], 3)]


def test_missing_faiss_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(MissingDependencyError, match=r"face-lightning\[cpu\]"):
        build_search("faiss")


@pytest.mark.parametrize(("in_hardware", "expected"), [(True, RoundedSearch), (False, FaissSearch)])
def test_auto_selects_the_fastest_backend_of_the_device(
    in_hardware: bool, expected: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("face_lightning.mapping.search.has_bfloat16", lambda device: in_hardware)
    assert isinstance(build_search("auto"), expected)
    assert isinstance(build_search("auto", torch.device("cpu")), expected)
    assert isinstance(build_search("auto", torch.device("meta")), TorchSearch)


def test_auto_works_without_faiss(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("face_lightning.mapping.search.has_bfloat16", lambda device: False)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert isinstance(build_search("auto"), TorchSearch)


@pytest.mark.parametrize("search", [TorchSearch(), RoundedSearch(), FaissSearch()], ids=["torch", "rounded", "faiss"])
@pytest.mark.parametrize("top_k", [1, 5])
def test_autocast_does_not_round_scores(search, top_k: int) -> None:
    codes, queries = 1 + 1e-3 * vectors(500, 16, 0), 1 + 1e-3 * vectors(40, 16, 1)  # indistinguishable in bfloat16
    search.refresh(codes)
    expected = search.search(queries, top_k)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(search.search(queries, top_k), expected)
        search.refresh(codes.bfloat16())  # as returned by a linear map under autocast; queries stay in float32
        rounded = search.search(queries, top_k)
    search.refresh(codes.bfloat16().float())
    assert torch.equal(rounded, search.search(queries, top_k))
    scores = (queries.double() @ codes.double().T).gather(1, expected)
    best = (queries.double() @ codes.double().T).topk(top_k, dim=1).values
    torch.testing.assert_close(scores, best, rtol=0, atol=1e-5)
