"""Tests of SimGCL, XSimGCL and LightGCL against plain implementations of their views and losses."""

import math
from collections.abc import Callable
from typing import Literal

import numpy as np
import pytest
import scipy.sparse as sp
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from face_lightning.backbones import LightGCL, SimGCL, XSimGCL
from face_lightning.backbones.simgcl import perturb
from face_lightning.errors import ConfigurationError
from face_lightning.graph import InteractionGraph, build_graph
from face_lightning.structures import Embeddings, TrainingBatch

CELLS = (np.random.default_rng(0).random((12, 9)) < 0.4).astype(np.float32)
BATCH = TrainingBatch(
    torch.tensor([0, 3, 3, 5]), torch.tensor([1, 2, 1, 8]), torch.tensor([4, 4, 0, 6]), torch.empty(0).long()
)


@pytest.fixture(autouse=True)
def exact_contrast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compute products in float32 on every machine."""
    monkeypatch.setattr("face_lightning.hardware.has_bfloat16", lambda device: False)


@pytest.fixture
def graph() -> InteractionGraph:
    return build_graph(sp.csr_array(CELLS))


def naive_contrast(
    queries: Embeddings,
    keys: Embeddings,
    ids: list[list[int]],
    temperature: float,
    similarity: Callable[..., torch.Tensor] = F.cosine_similarity,
    limit: float = math.inf,
) -> torch.Tensor:
    total = torch.tensor(0.0)
    for rows, query, key in zip(ids, queries, keys, strict=True):
        for row in rows:
            scores = torch.stack([similarity(query[row], other, dim=0) / temperature for other in key])
            total = total + (scores.logsumexp(0) - scores[row].clamp(-limit, limit)) / len(rows)
    return total


@given(st.integers(1, 40), st.integers(1, 40), st.floats(0.01, 10))
def test_noise_has_its_length_and_stays_in_the_orthant(rows: int, columns: int, scale: float) -> None:
    nodes = torch.randn(rows, columns)
    moved = perturb(nodes, scale)
    torch.testing.assert_close((moved - nodes).norm(dim=1), torch.full((rows,), scale), rtol=1e-3, atol=1e-4)
    assert (moved.sign() == nodes.sign()).all()


def test_noise_changes_with_each_call_and_follows_the_seed() -> None:
    nodes = torch.randn(6, 8)
    torch.manual_seed(1)
    first, second = perturb(nodes, 0.1), perturb(nodes, 0.1)
    torch.manual_seed(1)
    assert torch.equal(perturb(nodes, 0.1), first)
    assert not torch.equal(first, second)


def test_noise_covers_its_range_evenly() -> None:
    torch.manual_seed(0)
    directions = perturb(torch.ones(400, 64), 1.0) - 1
    relative = directions / directions.max(dim=1, keepdim=True).values
    assert relative.mean().item() == pytest.approx(0.5, abs=0.02)
    assert relative.std().item() == pytest.approx(12**-0.5, abs=0.02)


@pytest.mark.parametrize("combine", ["sum", "mean"])
def test_simgcl_without_noise_contrasts_the_clean_embeddings(graph: InteractionGraph, combine: str) -> None:
    backbone = SimGCL(12, 9, 4, noise_scale=0.0, combine=combine)
    embeddings = backbone(graph)
    loss = backbone.auxiliary_losses(BATCH, embeddings, graph)["contrast"]
    torch.testing.assert_close(loss, 0.1 * naive_contrast(embeddings, embeddings, [[0, 3, 5], [1, 2, 8]], 0.2))


def test_simgcl_gradient_is_that_of_autograd_through_both_views(graph: InteractionGraph) -> None:
    backbone = SimGCL(12, 9, 4, contrast_weight=1.0)
    torch.manual_seed(3)
    backbone.auxiliary_losses(BATCH, backbone(graph), graph)["contrast"].backward()
    ours, backbone.tables.weight.grad = backbone.tables.weight.grad, None
    torch.manual_seed(3)
    views = []
    for nodes in (torch.tensor([0, 3, 5, 13, 14, 20]), torch.arange(21)):  # computed only for these nodes
        layer, total = backbone.tables.weight, backbone.tables.weight
        for _ in range(2):
            layer = perturb(graph.propagate(layer), 0.9)
            total = total + layer
        total = total.index_add(0, nodes, perturb(graph.propagate(layer)[nodes], 0.9))
        views.append(Embeddings(total[:12], total[12:]))
    naive_contrast(*views, [[0, 3, 5], [1, 2, 8]], 0.2).backward()
    torch.testing.assert_close(ours, backbone.tables.weight.grad)


def test_batch_negatives_are_the_nodes_of_the_batch(graph: InteractionGraph) -> None:
    backbone = SimGCL(12, 9, 4, noise_scale=0.0, contrast_weight=1.0, negatives="batch")
    embeddings = backbone(graph)
    part = Embeddings(embeddings.users[[0, 3, 5]], embeddings.items[[1, 2, 8]])
    loss = backbone.auxiliary_losses(BATCH, embeddings, graph)["contrast"]
    torch.testing.assert_close(loss, naive_contrast(part, part, [[0, 1, 2], [0, 1, 2]], 0.2))


def test_xsimgcl_contrasts_its_result_with_one_of_its_layers(graph: InteractionGraph) -> None:
    backbone = XSimGCL(12, 9, 4, contrast_weight=1.0, contrast_layer=2).train()
    torch.manual_seed(5)
    embeddings = backbone(graph)
    loss = backbone.auxiliary_losses(BATCH, embeddings, graph)["contrast"]
    torch.manual_seed(5)
    layers = [backbone.tables.weight]
    for _ in range(3):
        layers.append(perturb(graph.propagate(layers[-1]), 0.2))
    total, middle = (layers[1] + layers[2] + layers[3]) / 3, layers[2]
    torch.testing.assert_close(torch.cat(embeddings), total)
    views = [Embeddings(nodes[:12], nodes[12:]) for nodes in (total, middle)]
    torch.testing.assert_close(loss, naive_contrast(*views, [[0, 3, 5], [1, 2, 8]], 0.2))


def dense(graph: InteractionGraph) -> np.ndarray:
    degrees = [np.maximum(CELLS.sum(axis), 1) for axis in (1, 0)]
    return CELLS / np.sqrt(np.outer(*degrees))


@pytest.mark.parametrize("rank", [1, 3, 8])
def test_lightgcl_svd_is_exact(graph: InteractionGraph, rank: int) -> None:
    backbone, twin = LightGCL(12, 9, 4, rank=rank), LightGCL(12, 9, 4, rank=rank)
    for each in (backbone, twin):
        each.prepare(graph)
    left, values, right = np.linalg.svd(dense(graph), full_matrices=False)
    expected = left[:, :rank] * values[:rank] @ right[:rank]
    torch.testing.assert_close(backbone.left @ backbone.right.T, torch.from_numpy(expected).float())
    assert torch.equal(backbone.left, twin.left), "the start vector is seeded"


@pytest.mark.parametrize("limit", [math.inf, 0.5])
@pytest.mark.parametrize(("name", "similarity"), [("cosine", F.cosine_similarity), ("dot", torch.linalg.vecdot)])
def test_lightgcl_contrasts_low_rank_views_with_the_embeddings(
    graph: InteractionGraph, name: Literal["cosine", "dot"], similarity: Callable[..., torch.Tensor], limit: float
) -> None:
    backbone = LightGCL(12, 9, 4, rank=3, contrast_weight=1.0, similarity=name, limit=limit).train()
    backbone.prepare(graph)
    embeddings = backbone(graph)
    loss = backbone.auxiliary_losses(BATCH, embeddings, graph)["contrast"]
    low = (backbone.left @ backbone.right.T).double()
    adjacency = torch.from_numpy(dense(graph)).double()
    users, items = (table.double() for table in backbone.initial_embeddings())
    seen_users = users + low @ items + low @ (adjacency.T @ users)
    seen_items = items + low.T @ users + low.T @ (adjacency @ items)
    view = Embeddings(seen_users.float(), seen_items.float())
    ids = [[0, 3, 5], [0, 1, 2, 4, 6, 8]]
    torch.testing.assert_close(loss, naive_contrast(view, embeddings, ids, 0.1, similarity, limit))


def test_invalid_values_raise() -> None:
    with pytest.raises(ConfigurationError, match="rank: expected at least 1, got 0"):
        LightGCL(12, 9, 4, rank=0)
    with pytest.raises(ConfigurationError, match=r"contrast_layer: expected 1 to 3 \(num_layers\), got 4"):
        XSimGCL(12, 9, 4, contrast_layer=4)
