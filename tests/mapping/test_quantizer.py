"""The quantizer against a naive float64 reference: choices, losses and gradients."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from face_lightning.errors import ConfigurationError
from face_lightning.mapping.quantizer import ResidualQuantizer


def reference(inputs: Tensor, table: Tensor, weight: Tensor, scales: list[Tensor], similarity: str):
    """Slot by slot and level by level, the nearest code that no earlier slot of the row has taken."""
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
@settings(max_examples=25, deadline=None)
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
    deeper = [torch.tensor(0.5 if similarity == "cosine" else 1.0).double()] * (num_levels - 1)
    scales = [torch.tensor(1.0).double(), *deeper]
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
    for level in result.indices:
        assert all(len(set(row)) == num_slots for row in level.tolist()), "no token twice in an entity and level"


def test_rotation_keeps_the_value_and_turns_the_gradient() -> None:
    torch.manual_seed(0)
    quantizer = ResidualQuantizer(torch.randn(20, 3), 3, gradient="rotation", backend="torch").double()
    inputs = F.normalize(torch.randn(1, 1, 3).double(), dim=-1).requires_grad_()
    result = quantizer(inputs)
    code = quantizer.codes()[result.indices[0, 0, 0]]
    torch.testing.assert_close(result.quantized[0, 0], code)
    start = inputs.detach()[0, 0]
    middle = F.normalize(start + code.detach(), dim=0)
    rotation = torch.eye(3).double() - 2 * torch.outer(middle, middle) + 2 * torch.outer(code.detach(), start)
    torch.testing.assert_close(rotation @ start, code.detach())
    upstream = torch.randn(3).double()
    (result.quantized[0, 0] * upstream).sum().backward()
    tangent = rotation.T @ upstream
    torch.testing.assert_close(inputs.grad[0, 0], tangent - (tangent @ start) * start)  # through the normalisation


def test_the_frozen_table_is_no_parameter_and_not_saved() -> None:
    quantizer = ResidualQuantizer(torch.randn(9, 4), 4)
    assert set(quantizer.state_dict()) == {"code_transform.weight"}
    assert torch.equal(quantizer.code_transform.weight, torch.eye(4)), "the map starts at the identity"


def test_levels_below_one_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="num_levels: expected at least 1, got 0"):
        ResidualQuantizer(torch.randn(9, 4), 4, num_levels=0)
