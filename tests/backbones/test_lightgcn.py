"""Tests of LightGCN by hand, against dense matrix powers, and with edge dropout."""

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from face_lightning.backbones import LightGCN
from face_lightning.graph import build_graph

# One user with two items: every edge weighs 1 / sqrt(2).
GRAPH = build_graph(sp.csr_array(np.ones((1, 2), dtype=np.float32)))
ROOT = 0.5**0.5


def hand_made(**options) -> LightGCN:
    backbone = LightGCN(1, 2, embedding_dim=1, num_layers=2, **options)
    backbone.tables.weight.data = torch.tensor([[4.0], [2.0], [6.0]])
    return backbone.eval()


@pytest.mark.parametrize(("combine", "factor"), [("sum", 1.0), ("mean", 1 / 3)])
def test_two_layers_by_hand(combine: str, factor: float) -> None:
    # Layer 1: user (2 + 6) w, items 4 w. Layer 2: user 2 * 4 w^2 = 4, items 8 w^2 = 4.
    users, items = hand_made(combine=combine)(GRAPH)
    torch.testing.assert_close(users, factor * torch.tensor([[4 + 8 * ROOT + 4]]))
    torch.testing.assert_close(items, factor * torch.tensor([[2 + 4 * ROOT + 4], [6 + 4 * ROOT + 4]]))


@pytest.mark.parametrize("num_layers", [1, 3])
def test_layers_are_powers_of_the_normalised_adjacency(num_layers: int) -> None:
    cells = np.random.default_rng(0).random((6, 8)) < 0.4
    graph = build_graph(sp.csr_array(cells.astype(np.float32)))
    backbone = LightGCN(6, 8, embedding_dim=3, num_layers=num_layers).eval()
    adjacency = np.zeros((14, 14))
    adjacency[:6, 6:] = cells
    adjacency += adjacency.T
    root = np.sqrt(np.maximum(adjacency.sum(0), 1))
    adjacency /= np.outer(root, root)
    powers = sum(np.linalg.matrix_power(adjacency, layer) for layer in range(num_layers + 1))
    expected = torch.from_numpy(powers).float() @ backbone.tables.weight
    torch.testing.assert_close(torch.cat(backbone(graph)), expected)


def test_edges_are_dropped_only_in_training_and_equally_in_all_layers() -> None:
    backbone = hand_made(keep_edges=0.5)
    whole = torch.cat(backbone(GRAPH))
    torch.manual_seed(0)
    drawn = {tuple(torch.cat(backbone.train()(GRAPH)).flatten().tolist()) for _ in range(50)}
    assert len(drawn) == 4, "each of the two edges is kept or dropped"
    # Kept edges weigh w / 0.5. With the first alone: 4 + 2 * 2w + 4 * 4w^2, 2 + 4 * 2w + 2 * 4w^2, 6.
    alone = torch.tensor([4 + 4 * ROOT + 8, 2 + 8 * ROOT + 4, 6])
    assert any(torch.allclose(torch.tensor(values), alone) for values in drawn)
    assert torch.equal(torch.cat(backbone.eval()(GRAPH)), whole)
    untouched = hand_made(keep_edges=1.0).train()
    assert torch.equal(torch.cat(untouched(GRAPH)), whole)
