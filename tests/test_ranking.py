"""Ranking with ties, masking and hits, against full sorts and sets."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from face_lightning.ranking import find_hits, rank_items, score_items
from face_lightning.types import Embeddings, EvaluationBatch

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


def test_ranking_leaves_the_scores_as_they_are() -> None:
    scores = torch.tensor([[0.0, 1.0, 1.0, 1.0]])
    assert rank_items(scores, 2).tolist() == [[1, 2]]
    assert scores.tolist() == [[0.0, 1.0, 1.0, 1.0]]


def batch(seen: list[set[int]], relevant: list[set[int]]) -> EvaluationBatch:
    def coordinates(sets: list[set[int]]) -> list[torch.Tensor]:
        pairs = [(row, item) for row, items in enumerate(sets) for item in sorted(items)]
        return [torch.tensor([pair[side] for pair in pairs], dtype=torch.long) for side in (0, 1)]

    users = torch.arange(len(seen)).flip(0)  # ids are not rows
    return EvaluationBatch(users, *coordinates(seen), *coordinates(relevant))


ITEMS = st.sets(st.integers(0, 9), max_size=8)


@given(st.lists(st.tuples(ITEMS, ITEMS), min_size=1, max_size=6))
def test_hits_equal_set_membership_and_seen_items_come_last(users: list[tuple[set[int], set[int]]]) -> None:
    seen = [user[0] for user in users]
    relevant = [user[1] - user[0] for user in users]
    tile = batch(seen, relevant)
    generator = torch.Generator().manual_seed(1)
    embeddings = Embeddings(torch.randn(len(users), 3, generator=generator), torch.randn(10, 3, generator=generator))
    scores = score_items(embeddings, tile)
    for row, user in enumerate(tile.user_ids.tolist()):
        unseen = [item for item in range(10) if item not in seen[row]]
        assert (scores[row, sorted(seen[row])] == -torch.inf).all()
        torch.testing.assert_close(scores[row, unseen], embeddings.items[unseen] @ embeddings.users[user])
    ranked = rank_items(scores, 10)
    hits, num_relevant = find_hits(ranked, tile, 10)
    for row, items in enumerate(ranked.tolist()):
        assert hits[row].tolist() == [item in relevant[row] for item in items]
        unseen = 10 - len(seen[row])
        assert set(items[:unseen]).isdisjoint(seen[row])
    assert num_relevant.tolist() == [len(items) for items in relevant]
