"""Losses against their formulas, written out pair by pair."""

import math

import pytest
import torch
import torch.nn.functional as F

from face_lightning.losses import bayesian_personalized_ranking, info_nce


def test_bpr_by_hand() -> None:
    loss = bayesian_personalized_ranking(torch.tensor([2.0, 0.0]), torch.tensor([0.0, 0.0]))
    assert loss.item() == pytest.approx((math.log(1 + math.exp(-2)) + math.log(2)) / 2)


def naive_info_nce(queries, keys, temperature: float, mask) -> float:
    total = 0.0
    for n, query in enumerate(queries):
        scores = [math.exp(float(query @ key) / temperature) for key in keys]
        kept = [score for m, score in enumerate(scores) if m == n or not mask[n, m]]
        total -= math.log(scores[n] / sum(kept))
    return total / len(queries)


@pytest.mark.parametrize("symmetric", [False, True])
def test_info_nce_equals_a_loop_with_masked_pairs(symmetric: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    queries = F.normalize(torch.randn(6, 4, generator=generator), dim=1)
    keys = F.normalize(torch.randn(6, 4, generator=generator), dim=1)
    classes = torch.tensor([0, 1, 0, 2, 3, 3])
    mask = classes.unsqueeze(1) == classes  # its diagonal must be kept all the same
    expected = naive_info_nce(queries, keys, 0.2, mask)
    if symmetric:
        expected = (expected + naive_info_nce(keys, queries, 0.2, mask)) / 2
    assert info_nce(queries, keys, 0.2, mask, symmetric).item() == pytest.approx(expected, rel=1e-5)


def test_an_entity_alone_has_nothing_to_contrast() -> None:
    one = F.normalize(torch.randn(1, 4), dim=1)
    assert info_nce(one, one, 0.1).item() == 0
