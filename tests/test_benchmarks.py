"""The reference implementation of benchmarks gives the same losses and metrics as the package."""

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from lightning.pytorch.callbacks import Timer

from benchmarks.graph_size import generated
from benchmarks.reference import BACKBONES, evaluate
from benchmarks.training import check_losses, duration, validate
from face_lightning.backbones import Backbone
from face_lightning.data.interactions import Interactions
from face_lightning.data.sampling import TrainingLoader
from face_lightning.graph import build_graph
from face_lightning.structures import Embeddings


def matrices(seed: int = 0) -> list[sp.csr_array]:
    split = np.random.default_rng(seed).choice(4, p=[0.7, 0.18, 0.06, 0.06], size=(40, 30))
    return [sp.csr_array((split == part).astype(np.float32)) for part in (1, 2, 3)]


@pytest.fixture(autouse=True)
def exact_contrast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compute products in float32 on every machine."""
    monkeypatch.setattr("face_lightning.hardware.has_bfloat16", lambda device: False)


@pytest.mark.parametrize("kind", BACKBONES, ids=lambda kind: kind.__name__)
def test_losses_are_equal(kind: type[Backbone]) -> None:
    train = matrices()[0]
    batch = next(iter(TrainingLoader(train, batch_size=64)))
    assert check_losses(kind, build_graph(train), batch) < 1e-5


def test_metrics_are_equal() -> None:
    interactions = Interactions.from_matrices(*matrices(), name="tiny")
    torch.manual_seed(0)
    embeddings = Embeddings(torch.randn(40, 8), torch.randn(30, 8))
    ours, _ = validate(embeddings, interactions, 7)
    usual = evaluate(embeddings, interactions, 20, batch_size=9)
    assert ours == pytest.approx(usual)
    assert 0 < ours["recall@20"] < 1


def test_generated_interactions_have_the_size_that_was_asked_for() -> None:
    train = generated(10_000)
    assert train.shape == (200, 100)
    assert 0.3 * 10_000 < train.nnz <= 10_000
    assert train.has_canonical_format


@pytest.mark.parametrize("minutes", [0.5, 2, 90, 24 * 60 + 1])
def test_times_are_written_as_lightning_reads_them(minutes: float) -> None:
    assert Timer(duration(minutes))._duration == 60 * minutes
