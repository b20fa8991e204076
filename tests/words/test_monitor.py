"""Tests of codebook statistics, churn, the warning of a collapse, and alignment accuracy."""

import math
import warnings
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from face_lightning.epoch_means import EpochMeans
from face_lightning.mapping.mapper import TokenMapper
from face_lightning.stages.alignment import AlignmentStage
from face_lightning.words.monitor import WordMonitor, churn, codebook_health


def test_health_of_evenly_used_words() -> None:
    health = codebook_health(torch.tensor([[0, 1], [2, 3], [4, 5]]), num_codes=12)
    assert health["perplexity"].item() == pytest.approx(6.0)
    assert health["active"] == 6
    assert health["active_fraction"].item() == pytest.approx(0.5)
    assert health["top_word_share"].item() == pytest.approx(1 / 3)
    assert health["duplicate_rate"] == 0


def test_health_shows_a_collapse() -> None:
    health = codebook_health(torch.tensor([[7, 8]] * 99 + [[8, 7]]), num_codes=1000)
    assert health["perplexity"].item() == pytest.approx(2.0)
    assert health["active"] == 2
    assert health["top_word_share"] == 1
    assert health["duplicate_rate"] == 1, "the order of words is ignored"


def test_health_of_a_single_word() -> None:
    health = codebook_health(torch.full((50, 1), 3), num_codes=10)
    expected = {"perplexity": 1, "active": 1, "active_fraction": 0.1, "top_word_share": 1, "duplicate_rate": 1}
    assert {key: value.item() for key, value in health.items()} == pytest.approx(expected)


def test_duplicates_are_counted_per_entity() -> None:
    health = codebook_health(torch.tensor([[0, 1], [1, 0], [2, 3], [0, 2]]), num_codes=4)
    assert health["duplicate_rate"].item() == pytest.approx(2 / 4)
    assert health["top_word_share"].item() == pytest.approx(3 / 4)


def test_perplexity_is_the_exponential_of_entropy() -> None:
    health = codebook_health(torch.tensor([[0], [0], [0], [1]]), num_codes=2)
    entropy = -(3 / 4 * math.log(3 / 4) + 1 / 4 * math.log(1 / 4))
    assert health["perplexity"].item() == pytest.approx(math.exp(entropy))


def test_churn_by_hand() -> None:
    before = torch.tensor([[0, 1, 2], [3, 4, 5]])
    assert churn(before, before) == 0
    assert churn(before, before.flip(1)) == 0, "the order of words is ignored"
    assert churn(before, torch.tensor([[2, 1, 9], [6, 7, 8]])).item() == pytest.approx(4 / 6)


@given(st.integers(1, 6), st.integers(1, 5), st.integers(0, 99))
def test_churn_equals_sets(num_rows: int, num_slots: int, seed: int) -> None:
    draws = torch.Generator().manual_seed(seed)
    before, now = (
        torch.stack([torch.randperm(8, generator=draws)[:num_slots] for _ in range(num_rows)]) for _ in range(2)
    )
    new = [len(set(row) - set(old)) for row, old in zip(now.tolist(), before.tolist(), strict=True)]
    assert churn(before, now).item() == pytest.approx(sum(new) / (num_rows * num_slots))


def train(mapper: TokenMapper, embeddings: torch.Tensor, num_steps: int) -> None:
    optimizer = torch.optim.Adam(mapper.parameters(), lr=1e-2)
    for _ in range(num_steps):
        mapped = mapper(embeddings)
        loss = (mapped.reconstruction - mapped.target).square().mean()
        loss = loss + mapped.quantized.codebook_loss + mapped.quantized.commitment_loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


PAPER = {"normalize_input": False, "whiten_input": False, "normalize_codebook": False, "similarity": "l2"}


@pytest.mark.slow
@pytest.mark.parametrize(("form", "collapses"), [(PAPER, True), ({}, False)], ids=["paper", "default"])
def test_monitor_warns_of_the_collapse_of_the_papers_form(form: dict[str, Any], collapses: bool) -> None:
    torch.manual_seed(0)
    tokens = 1 + 0.2 * torch.randn(400, 24)  # token embeddings share a large mean
    embeddings = 0.05 * torch.randn(120, 16)  # embeddings of a recommender are small
    mapper = TokenMapper(tokens, 16, num_descriptors=4, concept_dim=16, feedforward_dim=16, search="torch", **form)
    monitor = WordMonitor(num_codes=400, num_descriptors=4, num_users=60)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(3):
            train(mapper, embeddings, 20)
            values = monitor.measure(mapper.describe([embeddings]))
    collapsed = [str(warning.message) for warning in caught if "the words collapse" in str(warning.message)]
    assert bool(collapsed) == collapses, values
    if collapses:
        assert "lower the optimizer's lr or alignment_weight, raise anchoring_weight" in collapsed[-1]
    assert 0 <= values["codebook/churn"] <= 1


def test_monitor_warns_if_perplexity_halves() -> None:
    monitor = WordMonitor(num_codes=2000, num_descriptors=16, num_users=1)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        monitor._warn(1000.0, 2000)
        monitor._warn(501.0, 900)
        assert caught == []
        monitor._warn(499.0, 800)
    (warning,) = caught
    assert "its perplexity is 499 (800 words in use) after 1,000: the words collapse" in str(warning.message)


def observed(*steps: tuple[list[list[float]], list[list[float]], list[int], list[int]]) -> dict[str, float]:
    """Values that an epoch of alignment steps logs, given descriptor and text vectors, classes and positives."""
    stage = object.__new__(AlignmentStage)
    stage.epoch_means = EpochMeans()
    for descriptors, texts, classes, positives in steps:
        vectors = torch.tensor(descriptors).reshape(-1, 2), torch.tensor(texts).reshape(-1, 2)
        stage.log_alignment(*vectors, torch.tensor(classes), torch.tensor(positives, dtype=torch.long))
    return {name: float(value) for name, value in stage.epoch_values().items()}


def test_accuracy_and_modality_gap_by_hand() -> None:
    axes = [[1.0, 0.0], [0.0, 1.0]]
    found = observed(
        ([[1.0, 0.0], [0.6, 0.8]], axes, [0, 1], [0, 1]),  # both correct; shifts (0, 0) and (0.6, -0.2)
        ([[0.0, 1.0]], axes, [0, 1], [0]),  # wrong; shift (-1, 1)
        ([], axes, [0, 1], []),  # a process without entities of its own
    )
    gap = math.hypot((0.6 - 1) / 3, (-0.2 + 1) / 3)
    assert found == pytest.approx({"alignment/accuracy": 2 / 3, "alignment/modality_gap": gap})


def test_shifted_descriptors_have_full_accuracy_and_a_modality_gap() -> None:
    texts = [[0.6, 0.8], [0.6, -0.8]]
    found = observed(([[-0.6, 0.8], [-0.6, -0.8]], texts, [0, 1], [0, 1]))
    assert found == pytest.approx({"alignment/accuracy": 1.0, "alignment/modality_gap": 1.2})
    assert observed((texts, texts, [0, 1], [0, 1]))["alignment/modality_gap"] == 0


def test_another_entity_with_an_identical_text_is_correct() -> None:
    assert observed(([[0.0, 1.0]], [[1.0, 0.0], [0.0, 1.0]], [7, 7], [0]))["alignment/accuracy"] == 1
