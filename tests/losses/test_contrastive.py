"""Tests of BPR and contrastive losses against loops over pairs."""

import math

import pytest
import torch
import torch.nn.functional as F

from face_lightning.losses.bpr import BPR
from face_lightning.losses.contrastive import (
    contrast_with_all,
    info_nce,
    log_partition_function,
    unit_vectors,
)


def test_bpr_by_hand() -> None:
    positive = torch.tensor([2.0, 0.0], requires_grad=True)
    loss = BPR().compare(positive, torch.tensor([0.0, 0.0]))
    assert loss.item() == pytest.approx((math.log(1 + math.exp(-2)) + math.log(2)) / 2)
    loss.backward()
    torch.testing.assert_close(positive.grad, torch.tensor([-1 / (1 + math.exp(2)), -1 / 2]) / 2)


def test_bpr_of_extreme_scores_is_finite_and_not_zero() -> None:
    far = torch.tensor([1e4])
    assert BPR().compare(-far, far) == 2e4
    assert BPR().compare(far, -far) == 0


def naive_info_nce(queries, keys, temperature: float, mask) -> float:
    total = 0.0
    for n, query in enumerate(queries):
        scores = [math.exp(float(query @ key) / temperature) for key in keys]
        kept = [score for m, score in enumerate(scores) if m == n or not mask[n, m]]
        total -= math.log(scores[n] / sum(kept))
    return total / len(queries)


SAME_TEXT = torch.tensor([0, 1, 0, 2, 3, 3]).unsqueeze(1) == torch.tensor([0, 1, 0, 2, 3, 3])
MASKS = {
    "none": None,
    "same text": SAME_TEXT,  # its diagonal must not be excluded
    "one-sided": torch.ones(6, 6).triu().bool(),
    "all": torch.ones(6, 6).bool(),
}


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("name", MASKS)
def test_info_nce_equals_a_loop_with_masked_pairs(name: str, symmetric: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    queries = F.normalize(torch.randn(6, 4, generator=generator), dim=1)
    keys = F.normalize(torch.randn(6, 4, generator=generator), dim=1)
    left_out = torch.zeros(6, 6).bool() if MASKS[name] is None else MASKS[name]
    expected = naive_info_nce(queries, keys, 0.2, left_out)
    if symmetric:
        expected = (expected + naive_info_nce(keys, queries, 0.2, left_out.T)) / 2
    queries.requires_grad_()
    loss = info_nce(queries, keys, 0.2, MASKS[name], symmetric)
    assert loss.item() == pytest.approx(expected, rel=1e-5, abs=1e-6)
    loss.backward()
    assert queries.grad.isfinite().all()
    assert (queries.grad.abs().sum() > 1e-3) == (name != "all"), "without negatives the gradient is zero"


def test_symmetric_info_nce_uses_positives_in_both_directions() -> None:
    generator = torch.Generator().manual_seed(0)
    queries = F.normalize(torch.randn(6, 4, generator=generator), dim=1)
    keys = F.normalize(torch.randn(6, 4, generator=generator), dim=1)
    positives = torch.tensor([2, 0, 1, 5, 3, 4])
    expected = info_nce(queries, keys[positives], 0.2, symmetric=True)
    assert info_nce(queries, keys, 0.2, symmetric=True, positives=positives).item() == pytest.approx(expected.item())


def test_info_nce_of_a_single_entity_is_zero() -> None:
    one = F.normalize(torch.randn(1, 4), dim=1)
    assert info_nce(one, one, 0.1).item() == 0


@pytest.mark.parametrize("tile_size", [1, 77, 10**6])
@pytest.mark.parametrize("kept_size", [0, 31 * 23])
@pytest.mark.parametrize("trained", ["queries", "keys", "both"])
def test_log_partition_in_tiles_equals_logsumexp(tile_size: int, kept_size: int, trained: str) -> None:
    torch.manual_seed(0)
    tables = torch.randn(31, 4).double(), torch.randn(23, 4).double()
    needed = trained in ("queries", "both"), trained in ("keys", "both")
    ours, theirs = (
        [table.clone().requires_grad_(wanted) for table, wanted in zip(tables, needed, strict=True)] for _ in range(2)
    )
    result = log_partition_function(*ours, 0.05, tile_size=tile_size, kept_size=kept_size)
    expected = (theirs[0] @ theirs[1].T / 0.05).logsumexp(1)
    torch.testing.assert_close(result, expected)
    upstream = torch.randn(31).double()
    (result * upstream).sum().backward()
    (expected * upstream).sum().backward()
    for our, their, wanted in zip(ours, theirs, needed, strict=True):
        assert (our.grad is not None) == wanted
        torch.testing.assert_close(our.grad, their.grad)


@pytest.mark.parametrize("kept_size", [0, 31 * 23])
@pytest.mark.parametrize("number_format", [None, torch.bfloat16])
def test_excluded_keys_do_not_enter_the_sum(number_format: torch.dtype | None, kept_size: int) -> None:
    generator = torch.Generator().manual_seed(0)
    data = torch.randn(31, 8, generator=generator), torch.randn(23, 8, generator=generator)
    excluded = torch.stack([torch.randperm(23, generator=generator)[:5] for _ in range(31)])
    excluded[0] = torch.arange(5)  # none of the first keys may be used as the reference
    excluded[::2, 3:] = -1
    ours, theirs = ([tensor.clone().requires_grad_() for tensor in data] for _ in range(2))
    result = log_partition_function(*ours, 1.0, number_format, tile_size=64, kept_size=kept_size, excluded=excluded)
    scores = theirs[0] @ theirs[1].T
    mask = torch.zeros(31, 24, dtype=torch.bool).scatter(1, excluded.where(excluded >= 0, 23), True)[:, :23]
    expected = scores.masked_fill(mask, -torch.inf).logsumexp(1)
    near = {} if number_format is None else {"rtol": 0.05, "atol": 0.05}
    torch.testing.assert_close(result, expected, **near)
    result.square().sum().backward()
    expected.square().sum().backward()
    for our, their in zip(ours, theirs, strict=True):
        assert (our.grad - their.grad).norm() < (1e-5 if number_format is None else 0.02) * their.grad.norm()


def test_log_partition_of_a_low_temperature_does_not_overflow() -> None:
    queries = torch.tensor([[1.0, 0.0]], requires_grad=True)
    result = log_partition_function(queries, torch.eye(2), 1e-3)
    assert result.item() == pytest.approx(1000)
    result.sum().backward()
    torch.testing.assert_close(queries.grad, torch.tensor([[1000.0, 0.0]]))


def test_log_partition_in_another_format_is_close_and_returns_float32() -> None:
    torch.manual_seed(0)
    queries, keys = F.normalize(torch.randn(9, 16), dim=1), F.normalize(torch.randn(11, 16), dim=1)
    exact = log_partition_function(queries, keys, 0.2)
    queries.requires_grad_()
    keys.requires_grad_()
    rounded = log_partition_function(queries, keys, 0.2, torch.bfloat16)
    assert rounded.dtype == torch.float32
    assert not torch.equal(rounded, exact), "products were not computed in the given format"
    torch.testing.assert_close(rounded, exact, atol=0.02, rtol=0.01)
    rounded.sum().backward()
    assert queries.grad.dtype == keys.grad.dtype == torch.float32
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(log_partition_function(queries, keys, 0.2), exact), "autocast has no effect"


@pytest.mark.parametrize("kept_size", [0, 10**6])
def test_log_partition_in_another_format_for_many_tiles_and_odd_sizes(kept_size: int) -> None:
    torch.manual_seed(0)
    ours = [F.normalize(torch.randn(size, 8), dim=1).requires_grad_() for size in (300, 131)]
    theirs = [vectors.detach().clone().requires_grad_() for vectors in ours]
    weights = torch.rand(300)
    result = log_partition_function(*ours, 0.5, torch.bfloat16, tile_size=131 * 150, kept_size=kept_size)
    expected = (theirs[0] @ theirs[1].T / 0.5).logsumexp(1)
    torch.testing.assert_close(result, expected, atol=0.02, rtol=0.01)
    (result * weights).sum().backward()
    (expected * weights).sum().backward()
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine.grad, other.grad, atol=0.02, rtol=0.05)


def test_unit_vectors_and_gradient_equal_torch() -> None:
    torch.manual_seed(0)
    ours = torch.randn(7, 5, dtype=torch.float64)
    ours[3] = 0
    ours.requires_grad_()
    assert torch.equal(unit_vectors(ours), F.normalize(ours, dim=1))
    with torch.no_grad():
        ours[3] = 1
    assert torch.autograd.gradcheck(unit_vectors, ours)


def test_positive_logits_are_clamped_at_the_limit() -> None:
    queries, keys = torch.tensor([[2.0, 0.0]], requires_grad=True), torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    loss = contrast_with_all(queries, keys, torch.tensor([0]), temperature=0.5, limit=3.0)
    assert loss.item() == pytest.approx(math.log(math.exp(4) + 1) - 3, abs=0.02)
    loss.backward()
    assert queries.grad[0, 0] > 0, "only the denominator has a gradient, which repels the positive"


@pytest.mark.parametrize(("fast", "tolerance"), [(False, 1e-6), (True, 0.02)])
def test_contrast_with_all_is_cross_entropy_over_all_keys(
    fast: bool, tolerance: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("face_lightning.hardware.has_bfloat16", lambda device: fast)
    torch.manual_seed(0)
    queries, keys = torch.randn(5, 3), torch.randn(8, 3)
    positives = torch.tensor([7, 0, 3, 3, 1])
    ours = contrast_with_all(queries, keys, positives, 0.3)
    expected = F.cross_entropy(queries @ keys.T / 0.3, positives)
    torch.testing.assert_close(ours, expected, rtol=tolerance, atol=tolerance)


def test_unbounded_products_are_not_rounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """In bfloat16, products of a few hundred have errors of about 0.5, more than the loss of the best key."""
    monkeypatch.setattr("face_lightning.hardware.has_bfloat16", lambda device: True)
    generator = torch.Generator().manual_seed(0)
    queries, keys = (5 * torch.randn(count, 16, generator=generator) for count in (20, 50))
    scores = queries.double() @ keys.double().T / 0.5
    positives = scores.argmax(1)
    expected = (scores.logsumexp(1) - scores.amax(1)).mean()
    exact, rounded = (
        contrast_with_all(queries, keys, positives, 0.5, bounded=bounded).double() for bounded in (False, True)
    )
    assert (exact - expected).abs() < 1e-4
    assert (rounded - expected).abs() > 1e-3
