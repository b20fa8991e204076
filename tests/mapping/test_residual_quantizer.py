"""Tests of the residual quantizer against a naive float64 reference: indices, losses and gradients."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from face_lightning.errors import ConfigurationError
from face_lightning.mapping.residual_quantizer import ResidualQuantizer


def reference(inputs: Tensor, table: Tensor, weight: Tensor, scales: list[Tensor], similarity: str):
    """Choose for each level and slot the nearest code that no earlier slot of the row has."""
    codes = table @ weight.T
    residual = inputs
    if similarity == "cosine":
        codes, residual = F.normalize(codes, dim=-1), F.normalize(inputs, dim=-1)
    first, total = residual, torch.zeros_like(residual)
    indices, codebook, commitment = [], 0.0, 0.0
    for scale in scales:
        chosen = torch.zeros(inputs.shape[:2], dtype=torch.long)
        for row in range(inputs.shape[0]):
            taken: set[int] = set()
            for slot in range(inputs.shape[1]):
                vector = residual[row, slot].detach()
                if similarity == "cosine":
                    score = [float(vector @ code) for code in codes.detach()]
                else:
                    score = [-float((vector - code).square().sum()) for code in codes.detach()]
                best = max((token for token in range(len(codes)) if token not in taken), key=lambda t: (score[t], -t))
                taken.add(best)
                chosen[row, slot] = best
        picked = codes[chosen] * scale
        codebook = codebook + (residual.detach() - picked).square().sum(-1).mean()
        commitment = commitment + (residual - picked.detach()).square().sum(-1).mean()
        indices.append(chosen)
        total = total + picked
        residual = residual - picked.detach()
    quantized = first + (total - first).detach()
    return torch.stack(indices), codebook, commitment, quantized


@pytest.mark.parametrize("similarity", ["cosine", "l2"])
@given(st.integers(1, 3), st.integers(1, 4), st.integers(1, 4), st.integers(4, 9), st.integers(0, 2**31))
@settings(max_examples=25)
def test_quantizer_equals_the_reference(
    similarity: str, num_levels: int, num_rows: int, num_slots: int, num_codes: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    table = torch.randn(num_codes, 6, generator=generator)
    quantizer = ResidualQuantizer(table, 3, num_levels, similarity, backend="torch").double()
    inputs = torch.randn(num_rows, num_slots, 3, generator=generator).double()
    upstream = torch.randn(inputs.shape, generator=generator).double()
    ours, theirs = inputs.clone().requires_grad_(), inputs.clone().requires_grad_()
    weight = quantizer.code_transform.weight.detach().clone().requires_grad_()
    learnt = similarity == "cosine" and num_levels > 1
    if learnt:
        quantizer.log_scales.data = torch.randn(num_levels - 1, generator=generator).double() / 2
    log_scales = quantizer.log_scales.detach().clone() if learnt else torch.zeros(num_levels - 1).double()
    scales = [torch.tensor(1.0).double(), *log_scales.requires_grad_().exp()]
    indices, codebook, commitment, quantized = reference(theirs, table.double(), weight, scales, similarity)
    result = quantizer(ours)
    assert torch.equal(result.indices, indices)
    torch.testing.assert_close(result.quantized, quantized)
    torch.testing.assert_close(result.codebook_loss, codebook)
    torch.testing.assert_close(result.commitment_loss, commitment)
    ((result.quantized * upstream).sum() + 0.3 * result.codebook_loss + 0.7 * result.commitment_loss).backward()
    ((quantized * upstream).sum() + 0.3 * codebook + 0.7 * commitment).backward()
    torch.testing.assert_close(ours.grad, theirs.grad)
    torch.testing.assert_close(quantizer.code_transform.weight.grad, weight.grad)
    if learnt:
        torch.testing.assert_close(quantizer.log_scales.grad, log_scales.grad)
    for level in result.indices:
        assert all(len(set(row)) == num_slots for row in level.tolist()), "tokens of an entity and level are distinct"


@pytest.mark.parametrize("backend", ["torch", "faiss", "bfloat16"])
@pytest.mark.parametrize("similarity", ["cosine", "l2"])
@given(st.integers(1, 2), st.integers(1, 4), st.integers(1, 4), st.integers(0, 2**31))
@settings(max_examples=25)
def test_ties_equal_the_reference(
    similarity: str, backend: str, num_levels: int, num_rows: int, num_slots: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    table = torch.eye(3)[torch.randint(0, 3, (9,), generator=generator)]  # products with axes are exact
    table = table * torch.randint(0, 2, (9, 1), generator=generator).mul(2).sub(1)
    inputs = torch.randint(-2, 3, (num_rows, num_slots, 3), generator=generator).float()
    quantizer = ResidualQuantizer(table, 3, num_levels, similarity, backend=backend)
    scales = [torch.tensor(1.0), *([torch.tensor(0.5 if similarity == "cosine" else 1.0)] * (num_levels - 1))]
    if similarity == "cosine" and num_levels > 1:
        torch.testing.assert_close(quantizer.log_scales.exp(), torch.stack(scales[1:]))
    expected = reference(inputs, table, torch.eye(3), scales, similarity)[0]
    assert torch.equal(quantizer(inputs).indices, expected)


@pytest.mark.parametrize("similarity", ["cosine", "l2"])
@pytest.mark.parametrize("backend", ["torch", "faiss"])
def test_lowest_token_of_equal_codes_is_chosen(similarity: str, backend: str) -> None:
    axes = torch.eye(3).repeat(3, 1)  # equal codes: tokens 0, 3, 6, tokens 1, 4, 7 and tokens 2, 5, 8
    quantizer = ResidualQuantizer(axes, 3, similarity=similarity, backend=backend)
    inputs = torch.stack([torch.eye(3)[[1, 1, 1]], torch.eye(3)[[2, 0, 2]]])
    assert quantizer(inputs).indices.tolist() == [[[1, 4, 7], [2, 0, 5]]]


@pytest.mark.parametrize("similarity", ["cosine", "l2"])
def test_backends_agree(similarity: str) -> None:
    generator = torch.Generator().manual_seed(0)
    table, inputs = torch.randn(400, 8, generator=generator), torch.randn(50, 6, 4, generator=generator) + 0.5
    results = []
    for backend in ("torch", "faiss"):
        torch.manual_seed(0)
        quantizer = ResidualQuantizer(table, 4, num_levels=3, similarity=similarity, backend=backend)
        results.append(quantizer(inputs))
    for ours, theirs in zip(*results, strict=True):
        assert torch.equal(ours, theirs)


def test_search_uses_updated_codes() -> None:
    quantizer = ResidualQuantizer(torch.eye(4), 4)
    inputs = torch.eye(4).unsqueeze(0)
    assert quantizer(inputs).indices.flatten().tolist() == [0, 1, 2, 3]
    with torch.no_grad():  # as an optimizer step: code k becomes axis k - 1
        quantizer.code_transform.weight.copy_(torch.eye(4).roll(-1, 0))
    assert quantizer(inputs).indices.flatten().tolist() == [1, 2, 3, 0]


@pytest.mark.parametrize("similarity", ["cosine", "l2"])
def test_nearest_tokens_by_similarity(similarity: str) -> None:
    generator = torch.Generator().manual_seed(0)
    quantizer = ResidualQuantizer(torch.randn(30, 4, generator=generator), 4, similarity=similarity, backend="torch")
    inputs = torch.randn(3, 2, 4, generator=generator)
    quantizer(inputs)
    codes = quantizer.codes().detach()
    distances = torch.cdist(quantizer.queries(inputs), codes.expand(3, -1, -1))
    assert torch.equal(quantizer.nearest(inputs, 5), distances.argsort(dim=-1)[..., :5])


def rotation_onto(start: Tensor, end: Tensor) -> Tensor:
    """Matrix that turns unit vector `start` onto `end` within their plane, from its angle and its basis."""
    cosine = float(start @ end)
    across = F.normalize(end - cosine * start, dim=0)
    sine = float(across @ end)
    plane = torch.stack([start, across], dim=1)
    turn = torch.tensor([[cosine, -sine], [sine, cosine]], dtype=start.dtype)
    return torch.eye(len(start), dtype=start.dtype) + plane @ (turn - torch.eye(2, dtype=start.dtype)) @ plane.T


@pytest.mark.parametrize("similarity", ["cosine", "l2"])
@given(st.integers(1, 3), st.integers(2, 4), st.integers(1, 3), st.integers(0, 2**31))
@settings(max_examples=25)
def test_rotation_keeps_the_value_and_rotates_the_gradient(
    similarity: str, num_levels: int, dim: int, num_slots: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    table = torch.randn(20, dim, generator=generator)
    quantizer = ResidualQuantizer(table, dim, num_levels, similarity, gradient="rotation", backend="torch").double()
    plain = ResidualQuantizer(table, dim, num_levels, similarity, backend="torch").double()
    inputs = torch.randn(2, num_slots, dim, generator=generator).double().requires_grad_()
    queries = quantizer.queries(inputs)
    result = quantizer(inputs)
    torch.testing.assert_close(result.quantized, plain(inputs).quantized)
    upstream = torch.randn(queries.shape, generator=generator).double()
    expected = torch.empty_like(queries)
    for row in range(2):
        for slot in range(num_slots):
            start, end = queries[row, slot].detach(), result.quantized[row, slot].detach()
            matrix = rotation_onto(start / start.norm(), end / end.norm()) * (end.norm() / start.norm())
            torch.testing.assert_close(matrix @ start, end)
            expected[row, slot] = matrix.T @ upstream[row, slot]
    (through,) = torch.autograd.grad((queries * expected.detach()).sum(), inputs)  # gradient through the normalisation
    (ours,) = torch.autograd.grad((result.quantized * upstream).sum(), inputs)
    torch.testing.assert_close(ours, through)


def test_rotation_onto_the_opposite_side_is_finite() -> None:
    quantizer = ResidualQuantizer(torch.tensor([[-1.0, 0.0]]), 2, gradient="rotation")
    inputs = torch.tensor([[[1.0, 0.0]]], requires_grad=True)
    result = quantizer(inputs)
    assert result.quantized.tolist() == [[[-1.0, 0.0]]]
    result.quantized.sum().backward()
    assert inputs.grad.isfinite().all()


def test_gradients_are_bit_identical_on_several_threads() -> None:
    # Many slots choose the same few codes, so sums in the arrival order of threads would differ between runs.
    torch.manual_seed(0)
    quantizer, inputs = ResidualQuantizer(torch.randn(50, 256), 256), torch.randn(64, 16, 256)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        gradients = set()
        for _ in range(10):
            quantizer.zero_grad()
            quantizer(inputs).codebook_loss.backward()
            gradient = quantizer.code_transform.weight.grad
            assert gradient is not None
            gradients.add(gradient.numpy().tobytes())
        assert len(gradients) == 1
    finally:
        torch.set_num_threads(threads)


def test_frozen_table_is_neither_trained_nor_saved() -> None:
    quantizer = ResidualQuantizer(torch.randn(9, 4), 4)
    assert set(quantizer.state_dict()) == {"code_transform.weight"}
    assert torch.equal(quantizer.code_transform.weight, torch.eye(4)), "the map starts at the identity"


def test_fewer_than_one_level_raises() -> None:
    with pytest.raises(ConfigurationError, match="num_levels: expected at least 1, got 0"):
        ResidualQuantizer(torch.randn(9, 4), 4, num_levels=0)
