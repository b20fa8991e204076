"""Losses against their formulas, written out pair by pair."""

import math

import pytest
import torch
import torch.nn.functional as F

from face_lightning.losses import bayesian_personalized_ranking, info_nce


def test_bpr_by_hand() -> None:
    positive = torch.tensor([2.0, 0.0], requires_grad=True)
    loss = bayesian_personalized_ranking(positive, torch.tensor([0.0, 0.0]))
    assert loss.item() == pytest.approx((math.log(1 + math.exp(-2)) + math.log(2)) / 2)
    loss.backward()
    torch.testing.assert_close(positive.grad, torch.tensor([-1 / (1 + math.exp(2)), -1 / 2]) / 2)


def test_bpr_of_far_scores_neither_overflows_nor_vanishes() -> None:
    far = torch.tensor([1e4])
    assert bayesian_personalized_ranking(-far, far) == 2e4
    assert bayesian_personalized_ranking(far, -far) == 0


def naive_info_nce(queries, keys, temperature: float, mask) -> float:
    total = 0.0
    for n, query in enumerate(queries):
        scores = [math.exp(float(query @ key) / temperature) for key in keys]
        kept = [score for m, score in enumerate(scores) if m == n or not mask[n, m]]
        total -= math.log(scores[n] / sum(kept))
    return total / len(queries)


SAME_TEXT = torch.tensor([0, 1, 0, 2, 3, 3]).unsqueeze(1) == torch.tensor([0, 1, 0, 2, 3, 3])
MASKS = {
    "none": None,
    "same text": SAME_TEXT,  # its diagonal must be kept all the same
    "one-sided": torch.ones(6, 6).triu().bool(),
    "all": torch.ones(6, 6).bool(),
}


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("name", MASKS)
def test_info_nce_equals_a_loop_with_masked_pairs(name: str, symmetric: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    queries = F.normalize(torch.randn(6, 4, generator=generator), dim=1)
    keys = F.normalize(torch.randn(6, 4, generator=generator), dim=1)
    left_out = torch.zeros(6, 6).bool() if MASKS[name] is None else MASKS[name]
    expected = naive_info_nce(queries, keys, 0.2, left_out)
    if symmetric:
        expected = (expected + naive_info_nce(keys, queries, 0.2, left_out.T)) / 2
    queries.requires_grad_()
    loss = info_nce(queries, keys, 0.2, MASKS[name], symmetric)
    assert loss.item() == pytest.approx(expected, rel=1e-5, abs=1e-6)
    loss.backward()
    assert queries.grad.isfinite().all()
    assert (queries.grad.abs().sum() > 1e-3) == (name != "all"), "nothing is left to contrast with"


def test_an_entity_alone_has_nothing_to_contrast() -> None:
    one = F.normalize(torch.randn(1, 4), dim=1)
    assert info_nce(one, one, 0.1).item() == 0
