"""Tests of all ranking losses against loops in float64."""

import math

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array

from face_lightning.errors import ConfigurationError
from face_lightning.graph import InteractionGraph, build_graph
from face_lightning.losses import (
    BPR,
    BilateralSoftmax,
    CosineContrastive,
    DirectAU,
    RankingLoss,
    SampledSoftmax,
    WeightedSquares,
)
from face_lightning.structures import Embeddings, TrainingBatch

USERS, ITEMS, DIM, DRAWN = 7, 9, 4, 6
CELLS = (np.random.default_rng(1).random((USERS, ITEMS)) < 0.4).astype(np.float32)
PAIRS = [(0, 1), (0, 3), (2, 1), (5, 8), (6, 1)]
LOSSES = [
    BPR(),
    WeightedSquares(),
    SampledSoftmax(num_negatives=4),
    SampledSoftmax("batch"),
    CosineContrastive(4),
    BilateralSoftmax(4),
    DirectAU(),
]
every_loss = pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.name)


@pytest.fixture
def graph() -> InteractionGraph:
    cells = CELLS.copy()
    cells[tuple(zip(*PAIRS, strict=True))] = 1  # a batch is made of training pairs
    return build_graph(csr_array(cells))


@pytest.fixture
def embeddings() -> Embeddings:
    draws = torch.Generator().manual_seed(0)
    return Embeddings(*(torch.randn(size, DIM, generator=draws, dtype=torch.float64) for size in (USERS, ITEMS)))


def batch(pairs: list[tuple[int, int]] = PAIRS) -> TrainingBatch:
    users, items = (torch.tensor([pair[side] for pair in pairs]) for side in (0, 1))
    return TrainingBatch(users, items, (items + 2) % ITEMS, torch.empty(0, dtype=torch.long))


def drawn(loss: RankingLoss, embeddings: Embeddings, graph: InteractionGraph, count: int) -> tuple[float, list[int]]:
    """Compute the loss, and record the items that it drew."""
    torch.manual_seed(3)
    value = loss(batch(), embeddings, graph)
    torch.manual_seed(3)
    return float(value), torch.randint(ITEMS, (count,)).tolist()


def cosine(one: np.ndarray, other: np.ndarray) -> float:
    return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))


def test_bpr(graph: InteractionGraph, embeddings: Embeddings) -> None:
    users, items = (table.numpy() for table in embeddings)
    terms = [math.log1p(math.exp(users[u] @ items[(i + 2) % ITEMS] - users[u] @ items[i])) for u, i in PAIRS]
    assert float(BPR()(batch(), embeddings, graph)) == pytest.approx(np.mean(terms))


@pytest.mark.parametrize("use_cosine", [False, True])
def test_softmax_with_uniform_negatives(graph: InteractionGraph, embeddings: Embeddings, use_cosine: bool) -> None:
    users, items = (table.numpy() for table in embeddings)
    loss = SampledSoftmax("uniform", DRAWN, temperature=0.5, cosine=use_cosine)
    value, chosen = drawn(loss, embeddings, graph, DRAWN)
    score = cosine if use_cosine else np.dot
    terms = []
    for user, item in PAIRS:
        own = math.exp(score(users[user], items[item]) / 0.5)
        rest = [math.exp(score(users[user], items[j]) / 0.5) * ITEMS / DRAWN for j in chosen if j != item]
        terms.append(-math.log(own / (own + sum(rest))))
    assert value == pytest.approx(np.mean(terms))


def test_softmax_with_in_batch_negatives(graph: InteractionGraph, embeddings: Embeddings) -> None:
    users, items = (table.numpy() for table in embeddings)
    degrees = graph.item_degrees().tolist()
    terms = []
    for user, item in PAIRS:
        own = math.exp(users[user] @ items[item])
        rest = 0.0
        for _, other in PAIRS:
            if other != item:
                expected = (len(PAIRS) - 1) * degrees[other] / graph.num_interactions
                rest += math.exp(users[user] @ items[other]) / expected
        terms.append(-math.log(own / (own + rest)))
    assert float(SampledSoftmax("batch")(batch(), embeddings, graph)) == pytest.approx(np.mean(terms))


def test_many_uniform_negatives_approximate_the_full_softmax(graph: InteractionGraph, embeddings: Embeddings) -> None:
    scores = embeddings.users @ embeddings.items.T
    users, items = batch().user_ids, batch().positive_ids
    full = torch.nn.functional.cross_entropy(scores[users], items)
    torch.manual_seed(0)
    assert float(SampledSoftmax("uniform", 200_000)(batch(), embeddings, graph)) == pytest.approx(float(full), rel=0.02)


def test_cosine_contrast(graph: InteractionGraph, embeddings: Embeddings) -> None:
    users, items = (table.numpy() for table in embeddings)
    value, chosen = drawn(CosineContrastive(DRAWN, 0.1, 3.0), embeddings, graph, DRAWN)
    terms = []
    for user, item in PAIRS:
        excess = [max(0.0, cosine(users[user], items[j]) - 0.1) for j in chosen]
        terms.append(1 - cosine(users[user], items[item]) + 3.0 * float(np.mean(excess)))
    assert value == pytest.approx(np.mean(terms))


def test_bilateral_softmax(graph: InteractionGraph, embeddings: Embeddings) -> None:
    users, items = (table.numpy() for table in embeddings)
    value, chosen = drawn(BilateralSoftmax(DRAWN, 0.2, 0.5), embeddings, graph, DRAWN)
    terms = []
    for user, _ in PAIRS:
        own = [math.exp(cosine(users[user], items[i]) / 0.5) for u, i in PAIRS if u == user]  # user 0 has two pairs
        rest = [math.exp(cosine(users[user], items[j]) / 0.2) for j in chosen]
        terms.append(-0.5 / 0.2 * math.log(np.mean(own)) + math.log(np.mean(rest)))
    assert value == pytest.approx(np.mean(terms))


def test_bilateral_softmax_of_small_temperatures_is_finite(graph: InteractionGraph, embeddings: Embeddings) -> None:
    tables = Embeddings(*(table.float().requires_grad_() for table in embeddings))
    value = BilateralSoftmax(DRAWN, 1e-3, 1e-3)(batch(), tables, graph)
    value.backward()
    assert torch.isfinite(torch.stack([value, *(table.grad.sum() for table in tables)])).all()


def test_alignment_and_uniformity(graph: InteractionGraph, embeddings: Embeddings) -> None:
    users, items = (table.numpy() / np.linalg.norm(table.numpy(), axis=1, keepdims=True) for table in embeddings)
    expected = np.mean([((users[u] - items[i]) ** 2).sum() for u, i in PAIRS])
    for rows in (users[[0, 2, 5, 6]], items[[1, 3, 8]]):
        others = [(one, other) for one in range(len(rows)) for other in range(one)]
        closeness = [math.exp(-2 * ((rows[one] - rows[other]) ** 2).sum()) for one, other in others]
        expected += 0.7 / 2 * math.log(np.mean(closeness))
    assert float(DirectAU(0.7)(batch(), embeddings, graph)) == pytest.approx(expected)


def test_uniformity_of_a_single_pair_is_zero(graph: InteractionGraph, embeddings: Embeddings) -> None:
    alone = batch(PAIRS[:1])
    assert float(DirectAU(9.0)(alone, embeddings, graph)) == pytest.approx(float(DirectAU(0)(alone, embeddings, graph)))


@pytest.mark.parametrize("discount", [0.0, 0.3])
def test_squares_of_all_pairs(graph: InteractionGraph, embeddings: Embeddings, discount: float) -> None:
    scores = (embeddings.users @ embeddings.items.T).numpy()
    edges = [tuple(pair) for pair in graph.edge_index.T.tolist()]
    counts = [max(1, sum(item == other for _, other in edges)) for item in range(ITEMS)]
    targets = [count**-discount for count in counts]
    targets = [target * ITEMS / sum(targets) for target in targets]
    expected = sum((scores[user, item] - targets[item]) ** 2 for user, item in edges) + 0.3 * (scores**2).sum()
    # on all observed pairs at once the estimate is the objective
    value = WeightedSquares(0.3, popularity_discount=discount)(batch(edges), embeddings, graph)
    assert float(value) == pytest.approx(expected / len(edges), rel=1e-6)


def test_weighted_squares_regularise_rows_by_frequency(graph: InteractionGraph, embeddings: Embeddings) -> None:
    users, items = (table.numpy() for table in embeddings)
    edges = graph.edge_index.T.tolist()
    weight = 0.2 * math.sqrt(len(edges) / (USERS * ITEMS))
    expected = 0.0
    for table, side, others in ((users, 0, ITEMS), (items, 1, USERS)):
        frequencies = [sum(edge[side] == row for edge in edges) + weight * others for row in range(len(table))]
        for frequency, row in zip(frequencies, table, strict=True):
            expected += 2.0 * (frequency / np.mean(frequencies)) ** 0.7 * (row @ row)
    free, regularised = (WeightedSquares(None, strength, 0.7)(batch(), embeddings, graph) for strength in (0.0, 2.0))
    assert float(regularised - free) == pytest.approx(expected / len(edges), rel=1e-5)


@every_loss
def test_every_loss_reaches_both_tables(loss: RankingLoss, graph: InteractionGraph, embeddings: Embeddings) -> None:
    tables = Embeddings(*(table.clone().requires_grad_() for table in embeddings))
    value = loss(batch(), tables, graph)
    assert value.shape == ()
    value.backward()
    for table in tables:
        assert table.grad is not None
        assert torch.isfinite(table.grad).all()
        assert table.grad.abs().sum() > 0


def test_names_are_unique() -> None:
    assert len({loss.name for loss in LOSSES}) == 6


def test_invalid_values_raise() -> None:
    for build, message in (
        (lambda: SampledSoftmax(num_negatives=0), "num_negatives: expected at least 1, got 0"),
        (lambda: SampledSoftmax(temperature=0), "temperature: expected more than 0, got 0"),
        (lambda: CosineContrastive(margin=2), "margin: expected at least -1 and at most 1, got 2"),
        (lambda: BilateralSoftmax(temperature=0), "temperature: expected more than 0, got 0"),
        (lambda: BilateralSoftmax(positive_temperature=-1), "positive_temperature: expected more than 0, got -1"),
        (lambda: DirectAU(-1), "uniformity_weight: expected at least 0, got -1"),
        (lambda: WeightedSquares(-1), "unobserved_weight: expected at least 0, got -1"),
        (lambda: WeightedSquares(0.1, -1), "regularization: expected at least 0, got -1"),
    ):
        with pytest.raises(ConfigurationError, match=message):
            build()
