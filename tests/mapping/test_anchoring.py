"""Lexical anchoring against autograd on the full softmax, and the gradient behind chosen tokens."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from face_lightning.mapping.anchoring import LexicalTargets, lexical_anchoring, log_partition_function
from face_lightning.mapping.tokens import tokens_with_gradient


def world(num_rows: int = 5, num_slots: int = 3, num_codes: int = 40) -> tuple[Tensor, Tensor, LexicalTargets]:
    generator = torch.Generator().manual_seed(0)
    concepts = F.normalize(torch.randn(num_rows, num_slots, 6, generator=generator).double(), dim=-1)
    codes = F.normalize(torch.randn(num_codes, 6, generator=generator).double(), dim=-1)
    tokens = torch.stack([torch.randperm(num_codes, generator=generator)[:4] for _ in range(num_rows)])
    return concepts, codes, LexicalTargets(tokens, torch.rand(num_rows, 4, generator=generator).double().softmax(1))


def full_form(concepts: Tensor, codes: Tensor, targets: LexicalTargets, temperature: float) -> Tensor:
    mixture = (concepts @ codes.T / temperature).softmax(-1).mean(1)
    present = targets.probabilities.sum(1) > 0
    cross = -(targets.probabilities * mixture.gather(1, targets.tokens).log()).sum(1)
    return cross[present].mean()


def test_anchoring_and_its_gradient_equal_the_full_softmax() -> None:
    concepts, codes, targets = world()
    ours, theirs = concepts.clone().requires_grad_(), concepts.clone().requires_grad_()
    loss, expected = lexical_anchoring(ours, codes, targets, 0.07), full_form(theirs, codes, targets, 0.07)
    torch.testing.assert_close(loss, expected)
    loss.backward()
    expected.backward()
    torch.testing.assert_close(ours.grad, theirs.grad)


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
    targets.probabilities.zero_()
    assert lexical_anchoring(concepts, codes, targets, 0.1) == 0


def test_drawn_negatives_estimate_the_full_loss() -> None:
    concepts, codes, targets = world(num_codes=400)
    exact = lexical_anchoring(concepts, codes, targets, 0.2)
    torch.manual_seed(0)
    draws = torch.stack([lexical_anchoring(concepts, codes, targets, 0.2, num_negatives=100) for _ in range(50)])
    torch.testing.assert_close(draws.mean(), exact, rtol=0.02, atol=0)
    torch.testing.assert_close(lexical_anchoring(concepts, codes, targets, 0.2, num_negatives=400), exact)


@pytest.mark.parametrize("tile_size", [1, 77, 10**6])
def test_log_partition_in_tiles_equals_logsumexp(tile_size: int) -> None:
    concepts, codes, _ = world()
    flat = concepts.flatten(0, 1)
    ours, theirs = flat.clone().requires_grad_(), flat.clone().requires_grad_()
    result = log_partition_function(ours, codes, 0.05, tile_size)
    expected = (theirs @ codes.T / 0.05).logsumexp(1)
    torch.testing.assert_close(result, expected)
    upstream = torch.randn(len(flat)).double()
    (result * upstream).sum().backward()
    (expected * upstream).sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad)


@pytest.mark.parametrize("method", ["linear", "soft"])
def test_true_tokens_go_forward_and_a_gradient_comes_back(method) -> None:
    concepts, codes, _ = world()
    table = torch.randn(40, 9).double()
    tokens = (concepts @ codes.T).argmax(-1)
    concepts, codes = concepts.requires_grad_(), codes.requires_grad_()
    words = tokens_with_gradient(concepts, tokens, codes, table, method)
    torch.testing.assert_close(words, table[tokens])
    words.sum().backward()
    assert concepts.grad.abs().sum() > 0
    assert codes.grad is None


def test_soft_gradient_is_that_of_the_softmax_over_near_words() -> None:
    concepts, codes, _ = world()
    table, upstream = torch.randn(40, 9).double(), torch.randn(5, 3, 9).double()
    tokens = (concepts @ codes.T).argmax(-1)
    ours, theirs = concepts.clone().requires_grad_(), concepts.clone().requires_grad_()
    words = tokens_with_gradient(ours, tokens, codes, table, "soft", num_candidates=5, temperature=0.3)
    (words * upstream).sum().backward()
    near = (theirs @ codes.T).topk(5)
    (torch.einsum("bsk,bskt->bst", (near.values / 0.3).softmax(-1), table[near.indices]) * upstream).sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad)


def test_soft_gradient_counts_a_second_choice_once() -> None:
    concepts, codes, _ = world()
    table = torch.randn(40, 9).double()
    second = (concepts @ codes.T).topk(2).indices[..., 1]  # what the rule of distinct words may pick
    concepts.requires_grad_()
    tokens_with_gradient(concepts, second, codes, table, "soft", num_candidates=40).sum().backward()
    theirs = concepts.detach().clone().requires_grad_()
    ((theirs @ codes.T / 0.1).softmax(-1) @ table).sum().backward()
    torch.testing.assert_close(concepts.grad, theirs.grad)
