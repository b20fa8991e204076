"""Ranking metrics against fractions by hand, a naive loop, and their own sums in any order."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from face_lightning.metrics import NDCG, Recall, ranking_metrics

HITS = torch.tensor([[1, 0, 1], [0, 0, 0], [0, 1, 0], [1, 1, 1]], dtype=torch.bool)
RELEVANT = torch.tensor([2, 3, 0, 5])


def test_recall_by_hand() -> None:
    recall = Recall(3)
    recall.update(HITS, RELEVANT)
    assert recall.compute().item() == pytest.approx((2 / 2 + 0 / 3 + 3 / 5) / 3), "the user without items is left out"


def test_ndcg_by_hand() -> None:
    ndcg = NDCG(3)
    ndcg.update(HITS, RELEVANT)
    first = (1 + 1 / 2) / (1 + 1 / math.log2(3))
    assert ndcg.compute().item() == pytest.approx((first + 0 + 1) / 3)


@st.composite
def ranked_users(draw: st.DrawFn) -> tuple[torch.Tensor, torch.Tensor]:
    num_users, depth = draw(st.integers(1, 12)), draw(st.integers(1, 6))
    hits = [draw(st.lists(st.booleans(), min_size=depth, max_size=depth)) for _ in range(num_users)]
    relevant = [sum(row) + draw(st.integers(0, 4)) for row in hits]
    return torch.tensor(hits), torch.tensor(relevant)


@given(ranked_users(), st.integers(1, 6))
def test_metrics_equal_a_naive_loop(users: tuple[torch.Tensor, torch.Tensor], top_k: int) -> None:
    hits, relevant = users
    top_k = min(top_k, hits.shape[1])
    recalls, gains = [], []
    for row, count in zip(hits.tolist(), relevant.tolist(), strict=True):
        if count == 0:
            continue
        recalls.append(sum(row[:top_k]) / count)
        ideal = sum(1 / math.log2(rank + 2) for rank in range(min(top_k, count)))
        gains.append(sum(hit / math.log2(rank + 2) for rank, hit in enumerate(row[:top_k])) / ideal)
    for metric, expected in ((Recall(top_k), recalls), (NDCG(top_k), gains)):
        metric.update(hits, relevant)
        assert metric.compute().item() == pytest.approx(sum(expected) / max(1, len(expected)), abs=1e-9)


@given(ranked_users(), st.randoms(use_true_random=False))
def test_any_order_batching_and_rank_gives_the_same_bits(users: tuple[torch.Tensor, torch.Tensor], random) -> None:
    hits, relevant = users
    whole = NDCG(hits.shape[1])
    whole.update(hits, relevant)
    order = list(range(len(hits)))
    random.shuffle(order)
    ranks = [NDCG(hits.shape[1]), NDCG(hits.shape[1])]
    for row in order:
        random.choice(ranks).update(hits[row : row + 1], relevant[row : row + 1])
    total = sum(rank.total for rank in ranks)
    assert torch.equal(total, whole.total)
    assert sum(rank.num_users for rank in ranks) == whole.num_users


def test_metrics_equal_on_a_first_batch_stay_apart() -> None:
    metrics = ranking_metrics([1, 2], "val/")
    metrics.update(torch.zeros(2, 2, dtype=torch.bool), torch.ones(2, dtype=torch.long))
    metrics.update(torch.tensor([[False, True]]), torch.tensor([1]))
    values = metrics.compute()
    assert set(values) == {"val/recall@1", "val/recall@2", "val/ndcg@1", "val/ndcg@2"}
    assert values["val/recall@1"] == 0
    assert values["val/recall@2"].item() == pytest.approx(1 / 3)


def test_no_user_at_all_gives_zero() -> None:
    assert Recall(5).compute() == 0
