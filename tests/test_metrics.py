"""Tests of ranking metrics against hand-computed fractions and a naive loop, for any order of users."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from face_lightning.metrics import NDCG, RankingMetric, Recall, ranking_metrics

HITS = torch.tensor([[1, 0, 1], [0, 0, 0], [0, 1, 0], [1, 1, 1]], dtype=torch.bool)
RELEVANT = torch.tensor([2, 3, 0, 5])


def test_recall_by_hand() -> None:
    recall = Recall(3)
    recall.update(HITS, RELEVANT)
    assert recall.compute().item() == pytest.approx((2 / 2 + 0 / 3 + 3 / 5) / 3), "users without relevant items"


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


@given(ranked_users(), st.integers(1, 9))
def test_metrics_equal_a_naive_loop(users: tuple[torch.Tensor, torch.Tensor], top_k: int) -> None:
    hits, relevant = users  # top_k may exceed the number of items and of ranks
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


@pytest.mark.parametrize("kind", [Recall, NDCG])
@given(ranked_users(), st.randoms(use_true_random=False))
def test_metrics_are_bit_identical_for_any_order_batches_and_ranks(
    kind: type[RankingMetric], users: tuple[torch.Tensor, torch.Tensor], random
) -> None:
    hits, relevant = users
    whole, joined, *ranks = (kind(hits.shape[1]) for _ in range(4))
    whole.update(hits, relevant)
    left = list(range(len(hits)))
    random.shuffle(left)
    while left:
        size = random.randint(1, len(left))
        rows, left = left[:size], left[size:]
        random.choice(ranks).update(hits[rows], relevant[rows])
    for state, reduce in joined._reductions.items():  # as in a sync of processes
        setattr(joined, state, reduce(torch.stack([getattr(rank, state) for rank in ranks])))
    joined._update_count = 1  # avoids the warning of torchmetrics about compute before update
    assert torch.equal(joined.compute(), whole.compute())
    assert joined.num_users == whole.num_users == (relevant > 0).sum()


def test_reset() -> None:
    recall = Recall(3)
    recall.update(HITS, RELEVANT)
    recall.reset()
    recall.update(HITS[:1], RELEVANT[:1])
    assert recall.compute() == 1


def test_metrics_equal_on_the_first_batch_are_not_merged() -> None:
    metrics = ranking_metrics([5, 10], "val/")
    metrics.update(torch.zeros(2, 10, dtype=torch.bool), torch.ones(2, dtype=torch.long))
    metrics.update(torch.arange(10).unsqueeze(0) == 7, torch.tensor([1]))  # found at rank 8
    values = metrics.compute()
    assert set(values) == {"val/recall@5", "val/recall@10", "val/ndcg@5", "val/ndcg@10"}
    assert values["val/recall@5"] == values["val/ndcg@5"] == 0
    assert values["val/recall@10"].item() == pytest.approx(1 / 3)
    assert values["val/ndcg@10"].item() == pytest.approx(1 / math.log2(9) / 3)


@pytest.mark.parametrize("kind", [Recall, NDCG])
def test_no_users_give_zero(kind: type[RankingMetric]) -> None:
    metric = kind(2)
    metric.update(torch.zeros(3, 2, dtype=torch.bool), torch.zeros(3, dtype=torch.long))
    assert metric.compute() == 0
