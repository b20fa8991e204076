"""Tests of propagation against the dense adjacency matrix."""

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from face_lightning.graph import InteractionGraph, build_graph

CELLS = np.array([[1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0]], dtype=np.float32)  # user 2 and item 3 are isolated


@pytest.fixture
def graph() -> InteractionGraph:
    return build_graph(sp.csr_array(CELLS))


def dense_adjacency(weights: Tensor | None = None, cells: np.ndarray = CELLS) -> Tensor:
    entries = torch.from_numpy(cells)
    if weights is None:
        block = entries * (entries.sum(1, keepdim=True) * entries.sum(0, keepdim=True)).clamp_min(1).rsqrt()
    else:
        block = torch.zeros_like(entries)
        block[entries > 0] = weights
    users, items = block.shape
    return torch.cat(
        [torch.cat([torch.zeros(users, users), block], 1), torch.cat([block.T, torch.zeros(items, items)], 1)]
    )


def test_weights_by_hand(graph: InteractionGraph) -> None:
    assert graph.edge_index.tolist() == [[0, 0, 1, 1], [0, 1, 1, 2]]
    root = 0.5**0.5
    torch.testing.assert_close(graph.edge_weight, torch.tensor([root, 0.5, 0.5, root]))


@st.composite
def matrices(draw: st.DrawFn) -> np.ndarray:
    num_users, num_items = draw(st.integers(1, 6)), draw(st.integers(1, 6))
    row = st.lists(st.sampled_from([0.0, 1.0]), min_size=num_items, max_size=num_items)
    return np.array([draw(row) for _ in range(num_users)], dtype=np.float32)


@given(matrices(), st.integers(0, 2**31), st.booleans())
def test_propagation_and_its_gradient_equal_the_dense_form(cells: np.ndarray, seed: int, weighted: bool) -> None:
    graph, generator = build_graph(sp.csr_array(cells)), torch.Generator().manual_seed(seed)
    nodes = torch.randn(sum(cells.shape), 5, generator=generator)
    weights = torch.rand(graph.num_interactions, generator=generator) if weighted else None
    ours, theirs = nodes.clone().requires_grad_(), nodes.clone().requires_grad_()
    upstream = torch.randn(nodes.shape, generator=generator)
    result, expected = graph.propagate(ours, weights), dense_adjacency(weights, cells) @ theirs
    torch.testing.assert_close(result, expected)
    (result * upstream).sum().backward()
    (expected * upstream).sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad)
    alone = torch.from_numpy(np.concatenate([cells.sum(1), cells.sum(0)]) == 0)
    assert (result[alone] == 0).all(), "isolated nodes receive nothing"
    assert (ours.grad[alone] == 0).all(), "isolated nodes have no gradient"


@given(matrices(), st.integers(0, 4), st.integers(0, 2**31))
def test_the_sum_of_powers_and_its_gradient_equal_repeated_propagation(
    cells: np.ndarray, num_steps: int, seed: int
) -> None:
    graph, generator = build_graph(sp.csr_array(cells)), torch.Generator().manual_seed(seed)
    nodes = torch.randn(sum(cells.shape), 3, generator=generator)
    ours, theirs = nodes.clone().requires_grad_(), nodes.clone().requires_grad_()
    expected = layer = theirs
    for _ in range(num_steps):
        layer = dense_adjacency(None, cells) @ layer
        expected = expected + layer
    result = graph.propagate_sum(ours, num_steps)
    torch.testing.assert_close(result, expected)
    first = graph.propagate(nodes)
    torch.testing.assert_close(graph.propagate_sum(ours, num_steps, first=first), expected)
    rows = torch.from_numpy(np.random.default_rng(seed).integers(0, len(nodes), seed % 5))
    torch.testing.assert_close(graph.propagate_to(rows, nodes), first[rows])
    upstream = torch.randn(nodes.shape, generator=generator)
    (result * upstream).sum().backward()
    (expected * upstream).sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad)
    assert torch.equal(nodes, ours), "the features are not modified in place"


def test_given_weights_replace_the_normalised_ones(graph: InteractionGraph) -> None:
    weights, nodes = torch.tensor([1.0, 2.0, 0.0, 5.0]), torch.randn(7, 2)
    torch.testing.assert_close(graph.propagate(nodes, weights), dense_adjacency(weights) @ nodes)


def test_dropped_weights_are_kept_or_zero_and_unbiased(graph: InteractionGraph) -> None:
    torch.manual_seed(0)
    draws = torch.stack([graph.dropped_weights(0.8) for _ in range(4000)])
    kept = draws != 0
    torch.testing.assert_close(draws[kept], (graph.edge_weight / 0.8).expand_as(draws)[kept])
    torch.testing.assert_close(draws.mean(0), graph.edge_weight, rtol=0.05, atol=0)
    torch.testing.assert_close(kept.float().mean(0), torch.full((4,), 0.8), rtol=0.05, atol=0)
    assert torch.equal(graph.dropped_weights(1.0), graph.edge_weight)


def test_both_directions_of_an_interaction_are_dropped_together(graph: InteractionGraph) -> None:
    torch.manual_seed(0)
    for _ in range(20):
        adjacency = graph.propagate(torch.eye(7), graph.dropped_weights(0.5))
        assert torch.equal(adjacency, adjacency.T)


def test_propagation_stays_in_float32_under_autocast(graph: InteractionGraph) -> None:
    nodes = torch.randn(7, 2, generator=torch.Generator().manual_seed(0)).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        assert (nodes @ nodes.T).dtype == torch.bfloat16, "autocast is active"
        result = graph.propagate(nodes)
        result.square().sum().backward()
    assert result.dtype == nodes.grad.dtype == torch.float32
    adjacency = dense_adjacency()
    torch.testing.assert_close(result, adjacency @ nodes)
    torch.testing.assert_close(nodes.grad, 2 * adjacency @ result)
    half = nodes.detach().bfloat16()
    torch.testing.assert_close(graph.propagate(half), adjacency @ half.float())


def test_graph_is_a_torch_geometric_object_with_counts(graph: InteractionGraph) -> None:
    assert graph.data.metadata() == (["user", "item"], [("user", "interacts", "item")])
    assert (graph.num_users, graph.num_items, graph.num_interactions) == (3, 4, 4)
    assert graph.item_degrees().tolist() == [1, 2, 1, 0]
    assert graph.to("cpu") is graph
