"""Rows of several processes are gathered with their gradients, and losses equal those of one process."""

from collections.abc import Callable, Sequence
from typing import Any
from unittest import mock

import numpy as np
import pytest
import scipy.sparse as sp
import torch
import torch.nn.functional as F
from torch import Tensor

from face_lightning.backbones import LightGCL, SimGCL, XSimGCL
from face_lightning.data.sampling import TrainingLoader
from face_lightning.distributed import average, gather_rows, gather_unique, largest, own_rows, rank, world_size
from face_lightning.epoch_means import EpochMeans
from face_lightning.graph import build_graph
from face_lightning.losses import ContrastiveText
from face_lightning.losses.contrastive import info_nce
from face_lightning.mapping.mapper import TokenMapper
from face_lightning.structures import Embeddings
from tests.processes import together

SIZES = ((3, 2), (0, 4))
NUM_USERS, NUM_ITEMS, DIM = 24, 18, 6
BACKBONES: dict[str, Callable[[], Any]] = {
    "SimGCL, all": lambda: SimGCL(NUM_USERS, NUM_ITEMS, DIM, noise_scale=0.0),
    "SimGCL, batch": lambda: SimGCL(NUM_USERS, NUM_ITEMS, DIM, noise_scale=0.0, negatives="batch"),
    "XSimGCL": lambda: XSimGCL(NUM_USERS, NUM_ITEMS, DIM, noise_scale=0.0),
    "LightGCL": lambda: LightGCL(NUM_USERS, NUM_ITEMS, DIM),
}
NAMES = [*BACKBONES, "ContrastiveText"]


def vectors(rows: int, seed: int) -> Tensor:
    return torch.randn(rows, 4, generator=torch.Generator().manual_seed(seed))


def describe(tile: int = 2) -> Tensor:
    """Words of 11 entities in tiles, of which there may be fewer than processes."""
    torch.manual_seed(0)
    mapper = TokenMapper(torch.randn(20, 8), 6, num_descriptors=3, concept_dim=4, feedforward_dim=8, search="torch")
    return mapper.eval().describe(torch.randn(11, 6).split(tile))


def gather_and_contrast(sizes: Sequence[int]) -> dict[str, Any]:
    """The collective functions, and the symmetric contrast of the own rows, on this process."""
    size = sizes[rank()]
    own = vectors(size, rank()).requires_grad_()
    everything = gather_rows(own)
    (everything * torch.arange(everything.numel()).view_as(everything) * (rank() + 1)).sum().backward()
    queries, keys = vectors(size, 10 + rank()).requires_grad_(), vectors(size, 20 + rank()).requires_grad_()
    first = sum(sizes[: rank()])
    positives = torch.arange(first, first + size)
    normal = F.normalize(queries, dim=1), F.normalize(keys, dim=1)
    loss = info_nce(normal[0], gather_rows(normal[1]), 0.2, positives=positives)
    loss = (loss + info_nce(normal[1], gather_rows(normal[0]), 0.2, positives=positives)) / 2
    loss = loss * size * world_size() / sum(sizes)
    loss.backward()
    means = EpochMeans()
    means.update({"a": torch.tensor(float(rank())), "b": torch.tensor(2.0)}, rank() + 1)
    return {
        "gathered": everything.detach(),
        "gradient": own.grad,
        "unique": gather_unique(torch.tensor([5, rank(), rank(), 7])).tolist(),
        "some": gather_unique(torch.tensor([5, rank(), rank(), 7]), 2).tolist(),
        "described": describe(),
        "described at once": describe(11),
        "largest": (largest(3 * rank()), largest(-rank())),
        "loss": average(loss.detach()),
        "queries": queries.grad,
        "keys": keys.grad,
        "means": {name: float(value) for name, value in means.compute().items()},
    }


def everything() -> tuple[list[dict[str, Any]], dict[str, tuple[float, list[Tensor]]]]:
    return [gather_and_contrast(sizes) for sizes in SIZES], {name: step_of(name, 8) for name in NAMES}


@pytest.fixture(scope="module")
def both() -> list[Any]:
    """Results of two processes, by rank."""
    return together(2, everything)


@pytest.mark.parametrize("case", range(len(SIZES)))
def test_rows_are_gathered_with_their_gradients(both: list[Any], case: int) -> None:
    sizes, results = SIZES[case], [gathered[case] for gathered, _ in both]
    everything = torch.cat([vectors(size, seed) for seed, size in enumerate(sizes)])
    factors = torch.arange(everything.numel(), dtype=torch.float).view_as(everything) * (1 + 2)
    assert torch.equal(torch.cat([result["gradient"] for result in results]), factors)
    for number, result in enumerate(results):
        assert torch.equal(result["gathered"], everything)
        assert result["gradient"].shape == (sizes[number], 4)
        assert result["unique"] == [0, 1, 5, 7]
        assert result["some"] == [1, 7], "every other id, from an offset of 13, their sum"
        assert result["largest"] == (3, 0)
        assert result["means"] == pytest.approx({"a": (0 * 1 + 1 * 2) / 3, "b": 2})


@pytest.mark.parametrize("case", range(len(SIZES)))
def test_symmetric_contrast_over_processes_is_that_of_one(both: list[Any], case: int) -> None:
    sizes, results = SIZES[case], [gathered[case] for gathered, _ in both]
    queries = torch.cat([vectors(size, 10 + seed) for seed, size in enumerate(sizes)]).requires_grad_()
    keys = torch.cat([vectors(size, 20 + seed) for seed, size in enumerate(sizes)]).requires_grad_()
    loss = info_nce(F.normalize(queries, dim=1), F.normalize(keys, dim=1), 0.2, symmetric=True)
    loss.backward()
    for name, expected in (("queries", queries.grad), ("keys", keys.grad)):
        came = torch.cat([result[name] for result in results]) / 2  # DDP takes the mean over processes
        torch.testing.assert_close(came, expected)
    for result in results:
        torch.testing.assert_close(result["loss"], loss.detach())


def test_processes_share_the_mapping_of_entities(both: list[Any]) -> None:
    for gathered, _ in both:
        assert torch.equal(gathered[0]["described"], describe())
        assert torch.equal(gathered[1]["described at once"], describe(11)), "the first process described all"


def test_a_sample_of_unique_ids_is_unbiased() -> None:
    generator = torch.Generator().manual_seed(0)
    chosen = torch.zeros(50)
    for _ in range(2000):
        ids = torch.randperm(50, generator=generator)[:30]
        some = gather_unique(ids, 7)
        assert len(some.unique()) == 7
        assert torch.isin(some, ids).all()
        chosen[some] += 1
    assert (chosen / chosen.mean() - 1).abs().max() < 0.25  # 280 times each, on average
    assert torch.equal(gather_unique(ids, 30), ids.sort().values)


def test_a_single_process_copies_nothing() -> None:
    rows = torch.randn(3, 2)
    assert gather_rows(rows) is average(rows) is own_rows(rows)[0] is rows
    assert (rank(), world_size(), own_rows(rows)[1]) == (0, 1, 1.0)
    assert largest(-7) == -7
    means = EpochMeans()
    means.update({"a": torch.tensor(1.0)}, 1)
    means.update({"a": torch.tensor(4.0), "b": torch.tensor(7.0)}, 2)
    assert {name: float(value) for name, value in means.compute().items()} == {"a": 3, "b": 7}
    resumed = EpochMeans()
    resumed.load_state_dict(means.state_dict())
    resumed.update({"b": torch.tensor(1.0)}, 1)
    assert {name: float(value) for name, value in resumed.compute().items()} == {"a": 3, "b": 5}


def train_matrix() -> sp.csr_array:
    cells = np.random.default_rng(0).random((NUM_USERS, NUM_ITEMS)) < 0.3
    return sp.csr_array(cells.astype(np.float32))


def step_of(name: str, batch_size: int) -> tuple[float, list[Tensor]]:
    """Auxiliary loss of one step and its gradients, means over processes, in float32 throughout."""
    with mock.patch("face_lightning.hardware.has_bfloat16", return_value=False):
        return _step_of(name, batch_size)


def _step_of(name: str, batch_size: int) -> tuple[float, list[Tensor]]:
    train = train_matrix()
    loader = TrainingLoader(train, batch_size=batch_size, rank=rank(), world_size=world_size())
    batch = next(iter(loader))
    graph = build_graph(train)
    torch.manual_seed(0)
    if name == "ContrastiveText":
        text = ContrastiveText(DIM, 4, temperature=0.5)
        table = torch.nn.Parameter(torch.randn(NUM_USERS + NUM_ITEMS, DIM))
        embeddings = Embeddings(*table.split([NUM_USERS, NUM_ITEMS]))
        texts = F.normalize(vectors(NUM_USERS + NUM_ITEMS, 3), dim=1)
        loss = text.loss(batch, embeddings, texts, torch.arange(NUM_USERS + NUM_ITEMS) % 5 != 0)
        parameters = [table, *text.parameters()]
    else:
        backbone = BACKBONES[name]()
        backbone.prepare(graph)
        (loss,) = backbone.auxiliary_losses(batch, backbone(graph), graph).values()
        parameters = list(backbone.parameters())
    gradients = torch.autograd.grad(loss, parameters)
    return float(average(loss.detach())), [average(gradient) for gradient in gradients]


def test_contrasts_of_two_processes_are_those_of_one(both: list[Any]) -> None:
    for name in NAMES:
        alone = step_of(name, 16)
        assert alone[0] > 0
        for _, steps in both:
            loss, gradients = steps[name]
            assert loss == pytest.approx(alone[0], rel=1e-5), name
            for came, expected in zip(gradients, alone[1], strict=True):
                torch.testing.assert_close(came, expected, rtol=1e-4, atol=1e-6)
