"""Contract tests of all backbones that the package exports."""

import inspect
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
import torch
import torch.nn.functional as F

import face_lightning.backbones
from face_lightning.backbones import Backbone
from face_lightning.data.sampling import TrainingLoader
from face_lightning.errors import ConfigurationError
from face_lightning.graph import InteractionGraph, build_graph
from face_lightning.losses import BPR
from face_lightning.structures import TrainingBatch


def subclasses(kind: type[Backbone]) -> list[type[Backbone]]:
    return [found for child in kind.__subclasses__() for found in (child, *subclasses(child))]


BACKBONES = sorted(
    (kind for kind in subclasses(Backbone) if kind.__module__.startswith("face_lightning.")),
    key=lambda kind: kind.__name__,
)
every_backbone = pytest.mark.parametrize("kind", BACKBONES, ids=lambda kind: kind.__name__)


def test_every_backbone_file_is_covered() -> None:
    folder = Path(face_lightning.backbones.__file__).parent
    files = {path.stem for path in folder.glob("*.py")} - {"__init__", "backbone"}
    assert files == {kind.__module__.rpartition(".")[2] for kind in BACKBONES}


def build(kind: type[Backbone], num_users: int, num_items: int, seed: int = 0) -> Backbone:
    torch.manual_seed(seed)
    sized = "embedding_dim" in inspect.signature(kind).parameters
    backbone = kind(num_users, num_items, **({"embedding_dim": 16} if sized else {}))
    if backbone.text_dim is not None:
        backbone.set_texts(F.normalize(torch.randn(num_items, backbone.text_dim), dim=1))
    return backbone


def checkerboard(size: int = 24) -> tuple[sp.csr_array, np.ndarray]:
    """Users like items of their own parity; one liked item of each user is held out."""
    cells = np.equal.outer(np.arange(size) % 2, np.arange(size) % 2).astype(np.float32)
    held_out = (np.arange(size) + 2 * (np.arange(size) % 5) + 4) % size
    cells[np.arange(size), held_out] = 0
    return sp.csr_array(cells), held_out


def isolated() -> sp.csr_array:
    cells = np.zeros((5, 6), dtype=np.float32)
    cells[0, 1] = cells[1, 1] = cells[1, 2] = 1  # users 2 to 4 and items 0, 3, 4, 5 have no interaction
    return sp.csr_array(cells)


def losses(backbone: Backbone, graph: InteractionGraph, batch: TrainingBatch) -> torch.Tensor:
    embeddings = backbone(graph)
    users = embeddings.users[batch.user_ids]
    positive, negative = embeddings.items[batch.positive_ids], embeddings.items[batch.negative_ids]
    loss = BPR().compare((users * positive).sum(1), (users * negative).sum(1))
    return loss + sum(backbone.auxiliary_losses(batch, embeddings, graph).values())


@every_backbone
def test_shapes_and_finite_values_with_isolated_nodes(kind: type[Backbone]) -> None:
    graph, backbone = build_graph(isolated()), build(kind, 5, 6)
    backbone.prepare(graph)
    for training in (True, False):
        users, items = backbone.train(training)(graph)
        assert users.shape == (5, backbone.embedding_dim)
        assert items.shape == (6, backbone.embedding_dim)
        assert users.isfinite().all()
        assert items.isfinite().all()
    tables = backbone.initial_embeddings()
    if tables is not None:  # L2 regularisation applies to these
        assert (len(tables.users), len(tables.items)) == (5, 6)
        assert tables.users.requires_grad
        assert tables.items.requires_grad


@every_backbone
def test_isolated_nodes_get_a_finite_gradient(kind: type[Backbone]) -> None:
    graph, backbone = build_graph(isolated()), build(kind, 5, 6)
    if not list(backbone.parameters()):
        pytest.skip(f"{kind.__name__} has no parameters")
    backbone.prepare(graph)
    pairs = torch.tensor([2, 3]), torch.tensor([3, 4]), torch.tensor([5, 0])
    losses(backbone, graph, TrainingBatch(*pairs, torch.empty(0, dtype=torch.long))).backward()
    assert all(parameter.grad.isfinite().all() for parameter in backbone.parameters())


@every_backbone
def test_gradient_reaches_every_parameter(kind: type[Backbone]) -> None:
    train, _ = checkerboard()
    graph, backbone = build_graph(train), build(kind, 24, 24)
    if not list(backbone.parameters()):
        pytest.skip(f"{kind.__name__} has no parameters")
    backbone.prepare(graph)
    (batch,) = TrainingLoader(train, batch_size=1000)
    losses(backbone, graph, batch).backward()
    for name, parameter in backbone.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0, name


@every_backbone
def test_evaluation_is_deterministic(kind: type[Backbone]) -> None:
    graph, backbone = build_graph(checkerboard()[0]), build(kind, 24, 24).eval()
    backbone.prepare(graph)
    for first, second in zip(backbone(graph), backbone(graph), strict=True):
        assert torch.equal(first, second)


@every_backbone
def test_state_dict_round_trip(kind: type[Backbone]) -> None:
    graph = build_graph(checkerboard()[0])
    backbone, other = build(kind, 24, 24).eval(), build(kind, 24, 24, seed=1).eval()
    backbone.prepare(graph)
    other.prepare(graph)
    if list(backbone.parameters()):
        assert not torch.equal(backbone(graph).items, other(graph).items)
    other.load_state_dict(backbone.state_dict())
    for first, second in zip(backbone(graph), other(graph), strict=True):
        assert torch.equal(first, second)


@every_backbone
def test_invalid_width_raises(kind: type[Backbone]) -> None:
    if "embedding_dim" not in inspect.signature(kind).parameters:
        pytest.skip(f"{kind.__name__} has a fixed width")
    with pytest.raises(ConfigurationError, match="embedding_dim: expected at least 1, got 0"):
        kind(5, 6, embedding_dim=0)


@every_backbone
def test_checkerboard_is_learnt(kind: type[Backbone]) -> None:
    train, held_out = checkerboard()
    graph, backbone = build_graph(train), build(kind, 24, 24)
    if not list(backbone.parameters()):
        pytest.skip(f"{kind.__name__} is not trained")
    backbone.prepare(graph)
    epoch = 0
    loader = TrainingLoader(train, batch_size=64, epoch=lambda: epoch)
    optimizer = torch.optim.Adam(backbone.parameters(), 0.02)
    share_found = 0.0
    for epoch in range(30):  # noqa: B007 the loader reads it
        for batch in loader:
            optimizer.zero_grad()
            losses(backbone.train(), graph, batch).backward()
            optimizer.step()
        with torch.no_grad():
            users, items = backbone.eval()(graph)
        scores = users @ items.T
        scores[torch.from_numpy(train.toarray()) > 0] = -torch.inf
        share_found = max(share_found, (scores.argmax(1).numpy() == held_out).mean())
    # The best epoch counts, as in training: the held-out item is also drawn as a negative, and a model that separates
    # all nodes by a contrastive loss eventually learns that it was never clicked.
    assert share_found > 0.9, "the held-out item is the only unseen one of the user's parity"
