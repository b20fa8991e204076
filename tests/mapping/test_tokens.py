"""Tests of straight-through token embeddings: forward values, and gradients of the concepts."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from face_lightning.mapping.tokens import tokens_with_gradient


class World:
    """Random concepts and codes of unit length, distinct tokens, token embeddings, and an upstream gradient."""

    def __init__(self, seed: int = 0, dtype: torch.dtype = torch.float64, num_codes: int = 40) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.concepts = F.normalize(torch.randn(5, 3, 6, generator=generator, dtype=dtype), dim=-1)
        self.codes = F.normalize(torch.randn(num_codes, 6, generator=generator, dtype=dtype), dim=-1)
        self.table = torch.randn(num_codes, 9, generator=generator, dtype=dtype)
        self.upstream = torch.randn(5, 3, 9, generator=generator, dtype=dtype)
        self.best = (self.concepts @ self.codes.T).argsort(dim=-1, descending=True)

    def gradient(self, words: Tensor, concepts: Tensor) -> Tensor:
        return torch.autograd.grad((words * self.upstream).sum(), concepts)[0]


TOKENS = torch.randint(0, 40, (5, 3), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("method", ["linear", "soft"])
def test_forward_returns_the_token_embeddings(method) -> None:
    world = World(dtype=torch.float32)
    words = tokens_with_gradient(world.concepts.requires_grad_(), TOKENS, world.codes, world.table, method)
    torch.testing.assert_close(words, world.table[TOKENS])


@pytest.mark.parametrize("method", ["linear", "soft"])
def test_forward_is_bit_identical_to_the_token_embeddings(method) -> None:
    world = World(dtype=torch.float32)
    words = tokens_with_gradient(world.concepts.requires_grad_(), TOKENS, world.codes, world.table, method)
    assert torch.equal(words, world.table[TOKENS])


@pytest.mark.parametrize("method", ["linear", "soft"])
def test_gradient_reaches_the_concepts_and_not_the_codes(method) -> None:
    world = World()
    concepts, codes = world.concepts.requires_grad_(), world.codes.requires_grad_()
    tokens_with_gradient(concepts, world.best[..., 0], codes, world.table, method).sum().backward()
    assert (concepts.grad.abs().sum(-1) > 0).all()
    assert codes.grad is None


def test_linear_gradient_is_that_of_the_best_fit_from_codes_to_centered_tokens() -> None:
    world = World()
    concepts = world.concepts.requires_grad_()
    words = tokens_with_gradient(concepts, world.best[..., 0], world.codes, world.table, "linear")
    fit = torch.linalg.pinv(world.codes) @ (world.table - world.table.mean(0))
    expected = world.upstream @ fit.T
    torch.testing.assert_close(world.gradient(words, concepts), expected, rtol=1e-3, atol=1e-3)  # up to the ridge


@given(st.integers(0, 2**31), st.integers(1, 60), st.integers(0, 39), st.sampled_from([0.05, 0.3, 1.0]))
@settings(max_examples=40)
def test_soft_gradient_is_that_of_the_softmax_over_near_words(
    seed: int, num_candidates: int, place: int, temperature: float
) -> None:
    world = World(seed)
    tokens = world.best[..., place]  # with distinct words, a chosen word need not be near
    ours, theirs = world.concepts.clone().requires_grad_(), world.concepts.clone().requires_grad_()
    near = world.best[..., :num_candidates]
    words = tokens_with_gradient(ours, tokens, world.codes, world.table, "soft", near, temperature)
    expected = []
    for row in range(5):
        for slot in range(3):
            near = sorted({*world.best[row, slot, :num_candidates].tolist(), int(tokens[row, slot])})  # distinct
            weights = (world.codes[near] @ theirs[row, slot] / temperature).softmax(0)
            expected.append(weights @ world.table[near])
    torch.testing.assert_close(world.gradient(words, ours), world.gradient(torch.stack(expected).view(5, 3, 9), theirs))


def test_projected_tokens_are_the_linear_map_of_the_codes() -> None:
    world = World()
    world.table[:] = world.codes @ torch.randn(6, 9, dtype=torch.float64) + 2  # a linear map fits these exactly
    world.codes -= world.codes.mean(0)
    world.table -= world.table.mean(0) - 2
    words = tokens_with_gradient(world.concepts, TOKENS, world.codes, world.table, "projected")
    torch.testing.assert_close(words, world.table[TOKENS], rtol=1e-3, atol=1e-3)
    world.table += torch.randn(world.table.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    words = tokens_with_gradient(world.concepts, TOKENS, world.codes, world.table, "projected")
    assert (words - world.table[TOKENS]).norm(dim=-1).min() > 0.1, "a map of lower rank loses information"


def test_projected_tokens_have_the_linear_gradient() -> None:
    world = World()
    concepts = world.concepts.requires_grad_()
    gradients = [
        world.gradient(tokens_with_gradient(concepts, TOKENS, world.codes, world.table, method), concepts)
        for method in ("linear", "projected")
    ]
    torch.testing.assert_close(*gradients)


def test_near_words_default_to_the_eight_of_largest_product() -> None:
    world = World()
    concepts, tokens = world.concepts.requires_grad_(), world.best[..., 0]
    found = [
        world.gradient(tokens_with_gradient(concepts, tokens, world.codes, world.table, "soft", near), concepts)
        for near in (None, world.best[..., :8])
    ]
    torch.testing.assert_close(*found)
