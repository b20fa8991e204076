"""Lexical anchoring against autograd on the full softmax."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from face_lightning.mapping.anchoring import LexicalTargets, lexical_anchoring


def world(
    num_rows: int = 5, num_slots: int = 3, num_codes: int = 40, seed: int = 0
) -> tuple[Tensor, Tensor, LexicalTargets]:
    generator = torch.Generator().manual_seed(seed)
    concepts = F.normalize(torch.randn(num_rows, num_slots, 6, generator=generator).double(), dim=-1)
    codes = F.normalize(torch.randn(num_codes, 6, generator=generator).double(), dim=-1)
    tokens = torch.stack([torch.randperm(num_codes, generator=generator)[:4] for _ in range(num_rows)])
    return concepts, codes, LexicalTargets(tokens, torch.rand(num_rows, 4, generator=generator).double().softmax(1))


def full_form(concepts: Tensor, codes: Tensor, targets: LexicalTargets, temperature: float) -> Tensor:
    mixture = (concepts @ codes.T / temperature).softmax(-1).mean(1)
    present = targets.probabilities.sum(1) > 0
    cross = -(targets.probabilities * mixture.gather(1, targets.tokens).log()).sum(1)
    return cross[present].mean()


@given(
    st.integers(1, 5), st.integers(1, 4), st.integers(4, 30), st.integers(0, 2**31), st.sampled_from([0.05, 0.3, 1.0])
)
@settings(max_examples=40)
def test_anchoring_and_its_gradient_equal_the_full_softmax(
    num_rows: int, num_slots: int, num_codes: int, seed: int, temperature: float
) -> None:
    concepts, codes, targets = world(num_rows, num_slots, num_codes, seed)
    codes.requires_grad_()
    ours, theirs = concepts.clone().requires_grad_(), concepts.clone().requires_grad_()
    loss = lexical_anchoring(ours, codes, targets, temperature)
    expected = full_form(theirs, codes.detach(), targets, temperature)
    torch.testing.assert_close(loss, expected)
    loss.backward()
    expected.backward()
    torch.testing.assert_close(ours.grad, theirs.grad)
    assert codes.grad is None


def test_entities_without_text_count_for_nothing() -> None:
    concepts, codes, targets = world()
    targets.probabilities[2] = 0
    kept = torch.tensor([0, 1, 3, 4])
    some = lexical_anchoring(concepts[kept], codes, targets.rows(kept), 0.1)
    concepts.requires_grad_()
    loss = lexical_anchoring(concepts, codes, targets, 0.1)
    torch.testing.assert_close(loss, some)
    loss.backward()
    assert (concepts.grad[2] == 0).all()


@pytest.mark.parametrize("num_negatives", [None, 10])
def test_no_text_at_all_gives_zero_and_a_gradient_of_zero(num_negatives: int | None) -> None:
    concepts, codes, targets = world()
    concepts.requires_grad_()
    targets.probabilities.zero_()
    loss = lexical_anchoring(concepts, codes, targets, 0.01, num_negatives)
    assert loss == 0
    loss.backward()
    assert (concepts.grad == 0).all(), "and not nan"


def test_drawn_negatives_by_the_formula() -> None:
    concepts, codes, targets = world()
    torch.manual_seed(5)
    drawn = torch.randperm(40)[:10]
    torch.manual_seed(5)
    ours, theirs = concepts.clone().requires_grad_(), concepts.clone().requires_grad_()
    loss = lexical_anchoring(ours, codes, targets, 0.3, num_negatives=10)
    weights = (theirs @ codes.T / 0.3).exp()  # (B, S, V)
    wanted = weights.gather(2, targets.tokens.unsqueeze(1).expand(-1, 3, -1))
    partition = wanted.sum(-1, keepdim=True) + weights[..., drawn].sum(-1, keepdim=True) * (40 / 10)
    expected = -(targets.probabilities * (wanted / partition).mean(1).log()).sum(1).mean()
    torch.testing.assert_close(loss, expected)
    loss.backward()
    expected.backward()
    torch.testing.assert_close(ours.grad, theirs.grad)


def test_drawn_negatives_estimate_the_full_loss() -> None:
    concepts, codes, targets = world(num_codes=400)
    exact = lexical_anchoring(concepts, codes, targets, 0.2)
    torch.manual_seed(0)
    draws = torch.stack([lexical_anchoring(concepts, codes, targets, 0.2, num_negatives=100) for _ in range(50)])
    torch.testing.assert_close(draws.mean(), exact, rtol=0.02, atol=0)
    torch.testing.assert_close(lexical_anchoring(concepts, codes, targets, 0.2, num_negatives=400), exact)
