"""Tests of AlphaRec against a loop over users, items and layers."""

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from face_lightning.backbones import AlphaRec
from face_lightning.errors import ConfigurationError
from face_lightning.graph import build_graph

CELLS = np.array([[1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0]], dtype=np.float32)  # user 2 and item 3 are isolated
TEXTS = np.array([[0.6, 0.8], [1.0, 0.0], [np.nan, np.nan], [0.0, 1.0]], dtype=np.float32)  # item 2 has no text


@pytest.mark.parametrize(("hidden_dim", "num_layers"), [(5, 2), (0, 0)])
def test_forward(hidden_dim: int, num_layers: int) -> None:
    torch.manual_seed(0)
    graph = build_graph(sp.csr_array(CELLS))
    backbone = AlphaRec(3, 4, embedding_dim=6, text_dim=2, hidden_dim=hidden_dim, num_layers=num_layers)
    backbone.set_texts(torch.from_numpy(TEXTS))
    texts = [[0.8, 0.4], [1.0, 0.0], [0.0, 0.0]]  # means of items with a text
    texts += [[0.6, 0.8], [1.0, 0.0], [0.0, 0.0], [0.0, 1.0]]
    layer = [backbone.mlp(torch.tensor(text)).detach().double().numpy() for text in texts]
    total = list(layer)
    degrees = [*CELLS.sum(1), *CELLS.sum(0)]
    for _ in range(num_layers):
        following = [np.zeros(6) for _ in layer]
        for user, item in zip(*CELLS.nonzero(), strict=True):
            weight = 1 / np.sqrt(degrees[user] * degrees[3 + item])
            following[user] += weight * layer[3 + item]
            following[3 + item] += weight * layer[user]
        layer = following
        total = [one + other for one, other in zip(total, layer, strict=True)]
    expected = np.stack([row / max(np.linalg.norm(row), 1e-12) for row in total])
    np.testing.assert_allclose(torch.cat(backbone(graph)).detach().numpy(), expected, atol=1e-6)


def test_texts_are_frozen_and_saved() -> None:
    backbone = AlphaRec(3, 4, embedding_dim=6, text_dim=2)
    backbone.set_texts(torch.from_numpy(TEXTS))
    assert torch.equal(backbone.state_dict()["item_texts"], torch.from_numpy(np.nan_to_num(TEXTS)))
    assert "item_texts" not in dict(backbone.named_parameters())


def test_user_texts_follow_the_checkpoint_and_the_graph() -> None:
    backbone = AlphaRec(3, 4, embedding_dim=6, text_dim=2)
    backbone.set_texts(torch.from_numpy(TEXTS))
    graph, other = build_graph(sp.csr_array(CELLS)), build_graph(sp.csr_array(1 - CELLS))
    backbone(graph)
    state = {**backbone.state_dict(), "item_texts": backbone.item_texts.flip(0)}
    backbone.load_state_dict(state)
    fresh = AlphaRec(3, 4, embedding_dim=6, text_dim=2)
    fresh.load_state_dict(state)
    for one in (graph, other):
        torch.testing.assert_close(backbone(one), fresh(one))
        fresh.prepare(one)


def test_invalid_numbers_raise() -> None:
    with pytest.raises(ConfigurationError, match="num_layers: expected at least 0, got -1"):
        AlphaRec(3, 4, num_layers=-1)
