"""Ranking with ties, masking and hits, against full sorts and sets."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from face_lightning import inner_product, single_query
from face_lightning.errors import DataError
from face_lightning.inner_product import rank_items
from face_lightning.ranking import Ranker, find_hits
from face_lightning.structures import Embeddings, EvaluationBatch

SCORES = st.sampled_from([0.0, 1.0, 2.0, -1.0, -float("inf")])


@given(st.integers(1, 9), st.integers(1, 12), st.integers(1, 14), st.data())
def test_ranking_equals_a_stable_sort_under_ties(
    num_users: int, num_items: int, top_k: int, data: st.DataObject
) -> None:
    rows = [data.draw(st.lists(SCORES, min_size=num_items, max_size=num_items)) for _ in range(num_users)]
    expected = [sorted(range(num_items), key=lambda item: (-row[item], item))[:top_k] for row in rows]
    assert rank_items(torch.tensor(rows), top_k).tolist() == expected


@pytest.mark.parametrize("tile", [1, 7, 64])
def test_tiles_of_users_get_the_same_items(tile: int) -> None:
    scores = torch.randint(0, 4, (50, 30), generator=torch.Generator().manual_seed(0)).float()
    expected = scores.sort(dim=1, descending=True, stable=True).indices[:, :7]
    assert torch.equal(torch.cat([rank_items(rows, 7) for rows in scores.split(tile)]), expected)


def test_ranking_does_not_modify_the_scores() -> None:
    scores = torch.tensor([[0.0, 1.0, 1.0, 1.0]])
    assert rank_items(scores, 2).tolist() == [[1, 2]]
    assert scores.tolist() == [[0.0, 1.0, 1.0, 1.0]]


def batch(seen: list[set[int]], relevant: list[set[int]]) -> EvaluationBatch:
    def coordinates(sets: list[set[int]]) -> list[torch.Tensor]:
        pairs = [(row, item) for row, items in enumerate(sets) for item in sorted(items)]
        return [torch.tensor([pair[side] for pair in pairs], dtype=torch.long) for side in (0, 1)]

    users = torch.arange(len(seen)).flip(0)  # ids are not rows
    return EvaluationBatch(users, *coordinates(seen), *coordinates(relevant))


def only(tile: EvaluationBatch, row: int) -> EvaluationBatch:
    seen, relevant = tile.seen_items[tile.seen_rows == row], tile.relevant_items[tile.relevant_rows == row]
    users = tile.user_ids[row : row + 1]
    return EvaluationBatch(users, torch.zeros_like(seen), seen, torch.zeros_like(relevant), relevant)


ITEMS = st.sets(st.integers(0, 9), max_size=8)


@given(st.lists(st.tuples(ITEMS, ITEMS), min_size=1, max_size=6))
def test_hits_equal_set_membership_and_seen_items_come_last(users: list[tuple[set[int], set[int]]]) -> None:
    seen = [user[0] for user in users]
    relevant = [user[1] - user[0] for user in users]
    tile = batch(seen, relevant)
    generator = torch.Generator().manual_seed(1)
    embeddings = Embeddings(torch.randn(len(users), 3, generator=generator), torch.randn(10, 3, generator=generator))
    ranked = Ranker(embeddings).rank(tile, 10)
    hits, num_relevant = find_hits(ranked, tile, 10)
    for row, (user, items) in enumerate(zip(tile.user_ids.tolist(), ranked.tolist(), strict=True)):
        unseen = [item for item in range(10) if item not in seen[row]]
        scores = (embeddings.items @ embeddings.users[user]).tolist()
        assert items[: len(unseen)] == sorted(unseen, key=lambda item: -scores[item])
        assert items[len(unseen) :] == sorted(seen[row])
        assert hits[row].tolist() == [item in relevant[row] for item in items]
    assert num_relevant.tolist() == [len(items) for items in relevant]


KINDS = {
    "few values": lambda size: torch.randint(-1, 2, size).float(),  # ties everywhere, also across the cut
    "normal": torch.randn,
    "near ties": lambda size: 1 + 1e-6 * torch.randn(size),
    "zero": torch.zeros,
    "far apart": lambda size: torch.randn(size) * torch.logspace(-12, 12, size[0]).unsqueeze(1),
}


@given(
    st.sampled_from(sorted(KINDS)), st.integers(1, 60), st.integers(1, 9), st.integers(1, 12), st.booleans(), st.data()
)
@pytest.mark.filterwarnings("error")
def test_the_ranker_equals_a_full_sort_of_exact_scores(
    kind: str, num_items: int, dim: int, top_k: int, rough: bool, data: st.DataObject
) -> None:
    torch.manual_seed(data.draw(st.integers(0, 99)))
    embeddings = Embeddings(KINDS[kind]((7, dim)), KINDS[kind]((num_items, dim)))
    items = st.sets(st.integers(0, num_items - 1))
    tile = batch([data.draw(items) for _ in range(7)], [set()] * 7)
    exact = (embeddings.users[tile.user_ids].unsqueeze(1) * embeddings.items).sum(-1)
    exact[tile.seen_rows, tile.seen_items] = -torch.inf
    expected = exact.sort(dim=1, descending=True, stable=True).indices[:, :top_k]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inner_product, "_BLOCK", 2)
        patch.setattr(single_query, "_GROUP", 2)
        patch.setattr(single_query, "_MIN_ROUNDED", 0)
        patch.setattr(inner_product, "has_bfloat16", lambda device: rough)
        ranker = Ranker(embeddings, num_candidates=3)
        assert torch.equal(ranker.rank(tile, top_k), expected)
        assert torch.equal(torch.cat([ranker.rank(only(tile, row), top_k) for row in range(7)]), expected)


@pytest.mark.parametrize("rough", [False, True])
def test_the_ranking_is_the_same_bits_for_every_tile(rough: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(single_query, "_MIN_ROUNDED", 0)
    monkeypatch.setattr(inner_product, "has_bfloat16", lambda device: rough)
    torch.manual_seed(0)
    embeddings = Embeddings(torch.randn(97, 48), torch.randn(6000, 48))
    embeddings.items[3000:] = embeddings.items[:3000]  # every item has a duplicate
    ranker, nobody = Ranker(embeddings), torch.empty(0, dtype=torch.long)
    whole = ranker.rank(EvaluationBatch(torch.arange(97), nobody, nobody, nobody, nobody), 20)
    for tile in (1, 5, 64):
        parts = [EvaluationBatch(ids, nobody, nobody, nobody, nobody) for ids in torch.arange(97).split(tile)]
        assert torch.equal(torch.cat([ranker.rank(part, 20) for part in parts]), whole)
    scores = (embeddings.users.double() @ embeddings.items.double().T).float()
    assert (whole == rank_items(scores, 20)).float().mean() > 0.99


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("side", [0, 1])
def test_tables_that_are_not_finite_are_rejected(side: int, value: float) -> None:
    tables = Embeddings(torch.ones(5, 3), torch.ones(7, 3))
    tables[side][4, 1] = value
    with pytest.raises(DataError, match="expected finite numbers, got NaN or infinity in row 4; train"):
        Ranker(tables)


@pytest.mark.parametrize("rough", [False, True])
@pytest.mark.parametrize("scales", [(1e-20, 1.0), (1.0, 1e-20), (1e-19, 1e-19), (1e-22, 1e12), (1e-30, 1e-10)])
def test_the_ranking_is_exact_where_squares_underflow(
    rough: bool, scales: tuple[float, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inner_product, "has_bfloat16", lambda device: rough)
    torch.manual_seed(0)
    embeddings = Embeddings(torch.randn(9, 8) * scales[0], torch.randn(2000, 8) * scales[1])
    nobody = torch.empty(0, dtype=torch.long)
    exact = (embeddings.users.unsqueeze(1) * embeddings.items).sum(-1)
    expected = exact.sort(dim=1, descending=True, stable=True).indices[:, :10]
    tile = EvaluationBatch(torch.arange(9), nobody, nobody, nobody, nobody)
    assert torch.equal(Ranker(embeddings, num_candidates=10).rank(tile, 10), expected)
