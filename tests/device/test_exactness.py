"""What a device computes, against float64 or a full sort on the CPU: ties and bounds exactly, the rest by rounding."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
import torch
import torch.nn.functional as F
from torch import Tensor

from face_lightning.backbones import Backbone
from face_lightning.fold_in import FoldIn
from face_lightning.graph import build_graph
from face_lightning.inner_product import InnerProductSearch
from face_lightning.losses.contrastive import contrast_with_all, info_nce, log_partition_function
from face_lightning.mapping.anchoring import LexicalTargets, lexical_anchoring, match_words
from face_lightning.mapping.mapper import TokenMapper
from face_lightning.mapping.search import build_search, search_distinct
from face_lightning.ranking import Ranker, find_hits
from face_lightning.row_solver import RowSolver
from face_lightning.structures import Embeddings, EvaluationBatch, TrainingBatch
from tests.backbones.test_contract import BACKBONES, build, checkerboard, losses


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def small_integers(*shape: int, seed: int = 0) -> Tensor:
    """Products are exact in every format and order of summation, and often equal."""
    return torch.randint(-1, 2, shape, generator=torch.Generator().manual_seed(seed)).float()


def trained(tensor: Tensor, like: torch.device | torch.dtype) -> Tensor:
    """A copy on a device, or of a format, that gathers a gradient."""
    return tensor.clone().to(like).requires_grad_()


def best(queries: Tensor, keys: Tensor, top_k: int) -> Tensor:
    """Largest inner products, best first, ties by the lowest key: a stable sort in float64 on the CPU."""
    return (queries.double() @ keys.double().T).sort(dim=1, descending=True, stable=True).indices[:, :top_k]


def assert_best(found: Tensor, queries: Tensor, keys: Tensor, top_k: int) -> None:
    """What was found scores as much as the best, up to the rounding of float32 sums."""
    scores = queries.double() @ keys.double().T
    bound = 4 * queries.shape[1] * torch.finfo(torch.float32).eps * queries.norm(dim=1).max() * keys.norm(dim=1).max()
    expected = scores.gather(1, best(queries, keys, top_k))
    assert (scores.gather(1, found.cpu()) - expected).abs().max() <= bound
    assert all(len(set(row)) == len(row) for row in found.tolist())


@pytest.mark.parametrize("top_k", [1, 7, 40])
@pytest.mark.parametrize("rows", [1, 33, 500])
def test_ties_of_the_ranker_are_ordered_by_the_lowest_item(device: torch.device, rows: int, top_k: int) -> None:
    queries, keys = small_integers(rows, 6), small_integers(9000, 6, seed=1)
    found = InnerProductSearch(keys.to(device)).search(queries.to(device), top_k)
    assert torch.equal(found.cpu(), best(queries, keys, top_k))


KINDS: dict[str, Callable[[Tensor], Tensor]] = {
    "normal": lambda vectors: vectors,
    "near ties": lambda vectors: 1 + 1e-6 * vectors,
    "below zero": lambda vectors: -vectors.abs(),
    "underflow": lambda vectors: 1e-21 * vectors,  # products are denormal in float32 and bfloat16
    "far apart": lambda vectors: vectors * torch.logspace(-9, 9, len(vectors)).unsqueeze(1),
}


@pytest.mark.parametrize("kind", KINDS)
def test_bounds_of_rounding_hold(device: torch.device, kind: str) -> None:
    queries, keys = KINDS[kind](normal(64, 48)), KINDS[kind](normal(5000, 48, seed=1))
    found = InnerProductSearch(keys.to(device)).search(queries.to(device), 20).cpu()
    if kind == "underflow":  # scores are the same few denormal numbers or 0: which, depends on the order of the sum
        assert all(len(set(row)) == 20 for row in found.tolist())
    elif kind == "far apart":
        for query, row in zip(queries, found, strict=True):
            assert_best(row[None], query[None], keys, 20)
    else:
        assert_best(found, queries, keys, 20)


def test_rankings_are_the_same_bits_for_every_tile(device: torch.device) -> None:
    embeddings = Embeddings(normal(97, 64).to(device), normal(6000, 64, seed=1).to(device))
    ranker, nobody = Ranker(embeddings), torch.empty(0, dtype=torch.long, device=device)
    ids = torch.arange(97, device=device)
    whole = ranker.rank(EvaluationBatch(ids, nobody, nobody, nobody, nobody), 20)
    for tile in (1, 5, 64):
        parts = [EvaluationBatch(part, nobody, nobody, nobody, nobody) for part in ids.split(tile)]
        assert torch.equal(torch.cat([ranker.rank(part, 20) for part in parts]), whole)


def test_seen_items_come_last_and_hits_are_found(device: torch.device) -> None:
    users, items = small_integers(50, 4), small_integers(200, 4, seed=1)
    seen = torch.rand(50, 200, generator=torch.Generator().manual_seed(2)) < 0.2
    relevant = (torch.rand(50, 200, generator=torch.Generator().manual_seed(3)) < 0.1) & ~seen
    coordinates = [*seen.nonzero(as_tuple=True), *relevant.nonzero(as_tuple=True)]
    batch = EvaluationBatch(*(tensor.to(device) for tensor in (torch.arange(50), *coordinates)))
    ranked = Ranker(Embeddings(users.to(device), items.to(device))).rank(batch, 30)
    hits, num_relevant = find_hits(ranked, batch, 200)
    scores = (users @ items.T).masked_fill(seen, -torch.inf)
    expected = scores.sort(dim=1, descending=True, stable=True).indices[:, :30]
    assert torch.equal(ranked.cpu(), expected)
    assert torch.equal(hits.cpu(), relevant.gather(1, expected))
    assert torch.equal(num_relevant.cpu(), relevant.sum(1))


BACKENDS = ("auto", "torch", "bfloat16", "faiss")


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("top_k", [1, 5, 2048, 2100])  # FAISS on a GPU finds at most 2,048
def test_tokens_are_those_of_a_stable_sort(device: torch.device, backend: str, top_k: int) -> None:
    search = searched_by(backend, device)
    for seed in range(2):  # the codes change in place of those before
        codes, queries = small_integers(2200, 5, seed=seed), small_integers(150, 5, seed=seed + 9)
        search.refresh(codes.to(device))
        assert torch.equal(search.search(queries.to(device), top_k).cpu(), best(queries, codes, top_k))


@pytest.mark.parametrize("backend", BACKENDS)
def test_tokens_of_random_directions_are_the_best(device: torch.device, backend: str) -> None:
    codes, queries = F.normalize(normal(3000, 64), dim=1), F.normalize(normal(400, 64, seed=1), dim=1)
    search = searched_by(backend, device)
    with torch.autocast(device.type, torch.bfloat16):  # must have no influence
        search.refresh(codes.to(device))
        found = search.search(queries.to(device), 8)
    assert_best(found, queries, codes, 8)


@pytest.mark.parametrize("backend", BACKENDS)
def test_no_token_repeats_in_an_entity(device: torch.device, backend: str) -> None:
    codes, queries = small_integers(60, 4), small_integers(40 * 8, 4, seed=1).view(40, 8, 4)
    search = searched_by(backend, device)
    search.refresh(codes.to(device))
    scores = queries @ codes.T
    expected = torch.zeros(40, 8, dtype=torch.long)
    for slot in range(8):
        expected[:, slot] = scores[:, slot].argmax(1)
        scores.scatter_(2, expected[:, slot, None, None].expand(-1, 8, 1), -torch.inf)
    assert torch.equal(search_distinct(search, queries.to(device)).cpu(), expected)


def searched_by(backend: str, device: torch.device):
    if backend == "faiss":
        faiss = pytest.importorskip("faiss")
        if device.type == "cuda" and not hasattr(faiss, "StandardGpuResources"):
            pytest.skip("faiss has no GPU support; install the extra gpu")
    return build_search(backend, device)  # type: ignore[arg-type]


@pytest.mark.parametrize("gradient", ["straight_through", "rotation"])
@pytest.mark.parametrize("num_levels", [1, 3])
def test_mapper_and_quantizer_agree_with_the_cpu(device: torch.device, num_levels: int, gradient: str) -> None:
    torch.manual_seed(0)
    sizes = {"num_descriptors": 4, "concept_dim": 16, "hidden_dim": 48, "feedforward_dim": 32, "precision": "float32"}
    mapper = TokenMapper(normal(60, 24), 10, num_levels=num_levels, gradient=gradient, **sizes)  # type: ignore[arg-type]
    embeddings, results = normal(30, 10, seed=5), []
    mapper.fit_input([embeddings])
    for where in ("cpu", device):
        mapper = mapper.to(where)
        mapper.zero_grad()
        mapped = mapper(embeddings.to(where))
        (mapped.reconstruction.square().sum() + mapped.quantized.commitment_loss).backward()
        gradients = torch.cat(
            [parameter.grad.flatten().cpu() for parameter in mapper.parameters() if parameter.grad is not None]
        )
        results.append((mapped.quantized.indices.cpu(), mapped.reconstruction.detach().cpu(), gradients))
    assert torch.equal(results[0][0], results[1][0])
    torch.testing.assert_close(results[0][1], results[1][1], rtol=1e-4, atol=1e-4)
    assert (results[0][2] - results[1][2]).norm() <= 1e-3 * results[0][2].norm()


def test_training_of_the_mapper_in_bfloat16_stays_near(device: torch.device) -> None:
    torch.manual_seed(0)
    mapper = TokenMapper(normal(60, 24), 10, num_descriptors=4, concept_dim=16, hidden_dim=48, feedforward_dim=32)
    embeddings = normal(30, 10, seed=5).to(device)
    mapper = mapper.to(device)
    mapper.fit_input([embeddings])
    exact, rounded = (mapper.train(training).encode(embeddings) for training in (False, True))
    assert rounded.dtype == torch.float32
    assert F.cosine_similarity(exact, rounded, dim=-1).min() > 0.98


@pytest.mark.parametrize("number_format", [None, torch.bfloat16])
def test_partition_functions_and_their_gradients(device: torch.device, number_format: torch.dtype | None) -> None:
    data = [F.normalize(normal(size, 16, seed=size), dim=1) for size in (300, 131)]
    ours = [trained(vectors, device) for vectors in data]
    theirs = [trained(vectors, torch.float64) for vectors in data]
    result = log_partition_function(*ours, 0.5, number_format, tile_size=131 * 150)
    expected = (theirs[0] @ theirs[1].T / 0.5).logsumexp(1)
    near = {"rtol": 1e-5, "atol": 1e-5} if number_format is None else {"rtol": 0.02, "atol": 0.02}
    torch.testing.assert_close(result.double().cpu(), expected, **near)
    result.sum().backward()
    expected.sum().backward()
    for our, their in zip(ours, theirs, strict=True):
        assert (our.grad.double().cpu() - their.grad).norm() <= 10 * near["rtol"] * their.grad.norm()


def test_contrasts_are_cross_entropies(device: torch.device) -> None:
    queries, keys, positives = normal(40, 8), normal(90, 8, seed=1), torch.arange(40)
    expected = F.cross_entropy((queries @ keys.T / 0.3).double(), positives)
    ours = contrast_with_all(queries.to(device), keys.to(device), positives.to(device), 0.3)
    torch.testing.assert_close(ours.double().cpu(), expected, rtol=0.02, atol=0.02)  # in bfloat16 where it is fast
    unit = F.normalize(queries, dim=1)
    same = torch.zeros(40, 40, dtype=torch.bool)
    loss = info_nce(unit.to(device), unit.to(device), 0.2, same.to(device))
    torch.testing.assert_close(loss.double().cpu(), F.cross_entropy(unit.double() @ unit.double().T / 0.2, positives))


def test_anchoring_and_its_gradient(device: torch.device) -> None:
    concepts, codes = F.normalize(normal(20, 3, 8), dim=-1), F.normalize(normal(70, 8, seed=1), dim=-1)
    targets = LexicalTargets(torch.arange(80).view(20, 4) % 70, normal(20, 4, seed=2).softmax(1))
    ours, theirs = trained(concepts, device), trained(concepts, torch.float64)
    loss = lexical_anchoring(ours, codes.to(device), LexicalTargets(*(part.to(device) for part in targets)), 0.2)
    logits = theirs @ codes.double().T / 0.2
    matched = match_words(logits.detach().gather(2, targets.tokens.unsqueeze(1).expand(-1, 3, -1)))
    likelihood = logits.log_softmax(-1).gather(2, targets.tokens.gather(1, matched).unsqueeze(2)).squeeze(2)
    expected = -(targets.probabilities.gather(1, matched) * likelihood).sum(1).mean()
    torch.testing.assert_close(loss.double().cpu(), expected, rtol=0.02, atol=0.02)
    loss.backward()
    expected.backward()
    assert (ours.grad.double().cpu() - theirs.grad).norm() <= 0.03 * theirs.grad.norm()


def test_propagation_and_its_gradient_equal_the_dense_form(device: torch.device) -> None:
    cells = (np.random.default_rng(0).random((60, 45)) < 0.1).astype(np.float32)
    cells[3] = cells[:, 7] = 0  # isolated nodes
    graph, nodes = build_graph(sp.csr_array(cells)).to(device), normal(105, 16)
    entries = torch.from_numpy(cells).double()
    block = entries * (entries.sum(1, keepdim=True) * entries.sum(0, keepdim=True)).clamp_min(1).rsqrt()
    adjacency = torch.zeros(105, 105, dtype=torch.float64)
    adjacency[:60, 60:], adjacency[60:, :60] = block, block.T
    ours, theirs = trained(nodes, device), trained(nodes, torch.float64)
    with torch.autocast(device.type, torch.bfloat16):  # must have no influence
        result = graph.propagate(ours) + graph.propagate_sum(ours, 3)
    expected = adjacency @ theirs
    expected = expected + sum(torch.linalg.matrix_power(adjacency, power) @ theirs for power in range(4))
    torch.testing.assert_close(result.double().cpu(), expected, rtol=1e-4, atol=1e-5)
    result.square().sum().backward()
    expected.square().sum().backward()
    torch.testing.assert_close(ours.grad.double().cpu(), theirs.grad, rtol=1e-4, atol=1e-4)
    rows = torch.tensor([0, 3, 67, 104])
    torch.testing.assert_close(
        graph.propagate_to(rows.to(device), nodes.to(device)).double().cpu(),
        adjacency[rows] @ nodes.double(),
        rtol=1e-4,
        atol=1e-5,
    )


@pytest.mark.parametrize("kind", BACKBONES, ids=lambda kind: kind.__name__)
def test_backbones_keep_their_contract(device: torch.device, kind: type[Backbone]) -> None:
    graph = build_graph(checkerboard()[0])
    backbone, ids = build(kind, 24, 24), torch.arange(24)
    backbone.prepare(graph)
    on_cpu = backbone.eval()(graph)
    backbone, graph = backbone.to(device), graph.to(device)
    backbone.prepare(graph)
    embeddings = backbone.eval()(graph)
    for ours, theirs in zip(embeddings, on_cpu, strict=True):
        assert ours.device.type == device.type
        torch.testing.assert_close(ours.cpu(), theirs, rtol=1e-4, atol=1e-5)
    batch = TrainingBatch(*(ids.to(device) for ids in (ids, ids.flip(0), ids.roll(1), ids[:0])))
    losses(backbone.train(), graph, batch).backward()
    for name, parameter in backbone.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


def test_fold_in_finds_a_linear_map_and_copes_with_singular_tables(device: torch.device) -> None:
    draws = np.random.default_rng(0)
    liked = draws.random((600, 40)) < 0.3
    starts, rows = np.concatenate([[0], liked.sum(1).cumsum()]), np.nonzero(liked)[1]
    items, hidden = normal(40, 4), normal(4, 4, seed=1)
    sums = [items[rows[start:end]].sum(0) / max(1, end - start) ** 0.5 for start, end in pairwise(starts)]
    users = torch.stack(sums) @ hidden
    found = FoldIn(items.to(device), users.to(device), starts, rows).embed(np.array([0, 5, 7]), np.array([3]))
    expected = items[[0, 5, 7]].sum(0) / 3**0.5 @ hidden
    assert F.cosine_similarity(found[0].cpu(), expected, dim=0) > 0.99
    zeros = FoldIn(torch.zeros(40, 4, device=device), users.to(device), starts, rows)
    assert torch.equal(zeros.embed(np.array([2]), np.array([1])).cpu(), torch.zeros(1, 4))


@pytest.mark.parametrize("longest", [3, 30])  # fewer and more interactions than dimensions
def test_rows_of_least_squares_solve_the_normal_equations(device: torch.device, longest: int) -> None:
    table, lengths = normal(50, 8), torch.tensor([longest, longest // 2, 0])
    columns = torch.stack(
        [torch.randperm(50, generator=torch.Generator().manual_seed(row))[:longest] for row in (1, 2, 3)]
    )
    weights = torch.tensor([0.5, 1.0, 2.0])
    solver = RowSolver(table.to(device), 0.1)
    solved = solver.solve(columns.to(device), lengths.to(device), weights.to(device)).cpu()
    exact = table.double()
    for row, (chosen, length, weight) in enumerate(zip(columns, lengths, weights, strict=True)):
        own = exact[chosen[:length]]
        system = own.T @ own + 0.1 * exact.T @ exact + weight * torch.eye(8, dtype=torch.float64)
        expected = torch.linalg.solve(system, own.sum(0))
        torch.testing.assert_close(solved[row].double(), expected, rtol=1e-3, atol=1e-5)


def test_encoder_agrees_with_the_cpu(device: torch.device, tmp_path: Path) -> None:
    from face_lightning.text.encoders import TextEncoder
    from tests.chain.tiny import write_encoder

    write_encoder(tmp_path)
    vectors, descriptors, gradients = [], [], []
    for where in (torch.device("cpu"), device):
        encoder = TextEncoder(str(tmp_path / "model"), precision="float32", cache_dir=tmp_path / str(where.type)).to(
            where
        )
        vectors.append(encoder.encode(["movie who loves war", "crime and music", "robot"]))
        words = normal(2, 3, encoder.token_dim).to(where).requires_grad_()
        prompts = [encoder.prompt("movie {words} ."), encoder.prompt("user likes {words}")]
        encoded = encoder.encode_descriptors(words, prompts, torch.tensor([0, 1], device=where))
        encoded[:, 0].sum().backward()
        descriptors.append(encoded.detach().cpu())
        gradients.append(words.grad.cpu())
    for ours, theirs in (vectors, descriptors, gradients):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5)
