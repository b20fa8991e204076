"""Propagation against the dense adjacency."""

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from torch import Tensor

from face_lightning.graph import InteractionGraph, build_graph

CELLS = np.array([[1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0]], dtype=np.float32)  # user 2 and item 3 are isolated


@pytest.fixture
def graph() -> InteractionGraph:
    return build_graph(sp.csr_array(CELLS))


def dense_adjacency(weights: Tensor | None = None) -> Tensor:
    cells = torch.from_numpy(CELLS)
    if weights is None:
        scale = (cells.sum(1, keepdim=True) * cells.sum(0, keepdim=True)).clamp_min(1).rsqrt()
        block = cells * scale
    else:
        block = torch.zeros_like(cells)
        block[cells > 0] = weights
    return torch.cat([torch.cat([torch.zeros(3, 3), block], 1), torch.cat([block.T, torch.zeros(4, 4)], 1)])


def test_propagation_and_its_gradient_equal_the_dense_form(graph: InteractionGraph) -> None:
    nodes = torch.randn(7, 5, generator=torch.Generator().manual_seed(0))
    ours, theirs = nodes.clone().requires_grad_(), nodes.clone().requires_grad_()
    upstream = torch.randn(7, 5, generator=torch.Generator().manual_seed(1))
    result, expected = graph.propagate(ours), dense_adjacency() @ theirs
    torch.testing.assert_close(result, expected)
    (result * upstream).sum().backward()
    (expected * upstream).sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad)
    assert (result[[2, 6]] == 0).all(), "nothing flows to isolated nodes"


def test_given_weights_take_the_place_of_the_normalised_ones(graph: InteractionGraph) -> None:
    weights, nodes = torch.tensor([1.0, 2.0, 0.0, 5.0]), torch.randn(7, 2)
    torch.testing.assert_close(graph.propagate(nodes, weights), dense_adjacency(weights) @ nodes)


def test_dropped_weights_are_kept_or_zero_and_unbiased(graph: InteractionGraph) -> None:
    torch.manual_seed(0)
    draws = torch.stack([graph.dropped_weights(0.8) for _ in range(4000)])
    kept = draws != 0
    torch.testing.assert_close(draws[kept], (graph.edge_weight / 0.8).expand_as(draws)[kept])
    torch.testing.assert_close(draws.mean(0), graph.edge_weight, rtol=0.05, atol=0)


def test_propagation_stays_in_float32_under_autocast(graph: InteractionGraph) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        assert graph.propagate(torch.randn(7, 2)).dtype == torch.float32


def test_graph_is_a_torch_geometric_object_with_counts(graph: InteractionGraph) -> None:
    assert graph.data.metadata() == (["user", "item"], [("user", "interacts", "item")])
    assert (graph.num_users, graph.num_items, graph.num_interactions) == (3, 4, 4)
    assert graph.item_degrees().tolist() == [1, 2, 1, 0]
    assert graph.to("cpu") is graph
