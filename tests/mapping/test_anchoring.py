"""Tests of lexical anchoring against autograd on the full softmax."""

import itertools
from unittest.mock import patch

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from face_lightning.mapping.anchoring import LexicalTargets, lexical_anchoring, match_words


def world(
    num_rows: int = 5, num_slots: int = 3, num_codes: int = 40, seed: int = 0
) -> tuple[Tensor, Tensor, LexicalTargets]:
    generator = torch.Generator().manual_seed(seed)
    concepts = F.normalize(torch.randn(num_rows, num_slots, 6, generator=generator).double(), dim=-1)
    codes = F.normalize(torch.randn(num_codes, 6, generator=generator).double(), dim=-1)
    tokens = torch.stack([torch.randperm(num_codes, generator=generator)[:4] for _ in range(num_rows)])
    return concepts, codes, LexicalTargets(tokens, torch.rand(num_rows, 4, generator=generator).double().softmax(1))


def matches(scores: Tensor) -> list[int]:
    """Reference matching of `(S, W)` scores: free pairs by descending score, then the best word of remaining slots."""
    found: dict[int, int] = {}
    for place in scores.flatten().argsort(descending=True).tolist():
        slot, word = divmod(place, scores.shape[1])
        if slot not in found and word not in found.values():
            found[slot] = word
    return [found.get(slot, int(scores[slot].argmax())) for slot in range(len(scores))]


def full_form(concepts: Tensor, codes: Tensor, targets: LexicalTargets, temperature: float) -> Tensor:
    losses = []
    for slots, words, shares in zip(concepts, *targets, strict=True):
        logits = slots @ codes.T / temperature
        chosen = matches(logits[:, words].detach())
        crosses = F.cross_entropy(logits, words[chosen], reduction="none")
        losses.append((shares[chosen] * crosses).sum())
    return torch.stack(losses)[targets.probabilities.sum(1) > 0].mean()


@given(st.integers(1, 3), st.integers(1, 6), st.integers(1, 6), st.integers(0, 2**31))
@settings(max_examples=40)
def test_slots_match_distinct_words_if_there_are_enough(
    num_rows: int, num_slots: int, num_words: int, seed: int
) -> None:
    scores = torch.randn(num_rows, num_slots, num_words, generator=torch.Generator().manual_seed(seed))
    found = match_words(scores).tolist()
    assert found == [matches(row) for row in scores]
    assert all(len(set(row)) == min(num_slots, num_words) for row in found)


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


def test_entities_without_text_are_ignored() -> None:
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
def test_without_any_text_loss_and_gradient_are_zero(num_negatives: int | None) -> None:
    concepts, codes, targets = world()
    concepts.requires_grad_()
    targets.probabilities.zero_()
    loss = lexical_anchoring(concepts, codes, targets, 0.01, num_negatives)
    assert loss == 0
    loss.backward()
    assert (concepts.grad == 0).all(), "zero, not NaN"


def test_sampled_negatives_equal_the_formula() -> None:
    concepts, codes, targets = world()
    torch.manual_seed(5)
    drawn = torch.randperm(40)[:10]
    torch.manual_seed(5)
    ours, theirs = concepts.clone().requires_grad_(), concepts.clone().requires_grad_()
    loss = lexical_anchoring(ours, codes, targets, 0.3, num_negatives=10)
    terms = []
    for row, words, probabilities in zip(theirs, targets.tokens.tolist(), targets.probabilities, strict=True):
        weights = (row @ codes.T / 0.3).exp()  # (S, V)
        others = [word for word in drawn.tolist() if word not in words]
        partition = weights[:, words].sum(1) + weights[:, others].sum(1) * (40 - 4) / len(others)
        chosen = matches(weights[:, words].detach())
        likelihoods = weights[range(3), torch.tensor(words)[chosen]] / partition
        terms.append(-(probabilities[chosen] * likelihoods.log()).sum())
    expected = torch.stack(terms).mean()
    torch.testing.assert_close(loss, expected)
    loss.backward()
    expected.backward()
    torch.testing.assert_close(ours.grad, theirs.grad)


@given(st.integers(3, 6), st.integers(0, 2**31))
@settings(max_examples=10, deadline=None)
def test_sampled_partition_is_unbiased(num_negatives: int, seed: int) -> None:
    concepts, codes, targets = world(num_rows=1, num_slots=1, num_codes=7, seed=seed)
    targets = LexicalTargets(targets.tokens[:, :2], torch.ones(1, 2).double())
    logits = (concepts[0] @ codes.T / 0.3)[0]
    partitions = []
    for drawn in itertools.combinations(range(7), num_negatives):
        with patch("torch.randperm", lambda *_, drawn=drawn, **__: torch.tensor(drawn)):
            loss = lexical_anchoring(concepts, codes, targets, 0.3, num_negatives)
        partitions.append((loss + logits[targets.tokens[0]].max()).exp())
    torch.testing.assert_close(torch.stack(partitions).mean(), logits.exp().sum())


def test_sampled_loss_equals_the_full_one_at_the_targets() -> None:
    generator = torch.Generator().manual_seed(0)
    codes = F.normalize(torch.randn(400, 32, generator=generator), dim=1)
    tokens = torch.stack([torch.randperm(400, generator=generator)[:3] for _ in range(8)])
    targets = LexicalTargets(tokens, torch.full((8, 3), 1 / 3))
    noise = torch.randn(8, 3, 32, generator=generator)
    concepts = F.normalize(codes[tokens] + 0.15 * noise, dim=-1).requires_grad_()
    exact = lexical_anchoring(concepts, codes, targets, 0.15)
    (gradient,) = torch.autograd.grad(exact, concepts)
    torch.manual_seed(0)
    draws = [lexical_anchoring(concepts, codes, targets, 0.15, num_negatives=100) for _ in range(50)]
    torch.testing.assert_close(torch.stack(draws).mean(), exact, rtol=0.005, atol=0)
    estimate = torch.stack([torch.autograd.grad(draw, concepts)[0] for draw in draws]).mean(0)
    assert (estimate - gradient).norm() < 0.03 * gradient.norm()
    torch.testing.assert_close(lexical_anchoring(concepts, codes, targets, 0.15, num_negatives=400), exact)


def test_sample_contains_a_non_target_word() -> None:
    concepts, codes, targets = world(num_codes=6)
    assert lexical_anchoring(concepts, codes, targets, 0.3, num_negatives=1).isfinite()
