"""Tests of the disentangled projection."""

import pytest
import torch

from face_lightning.mapping.projection import DisentangledProjection


@pytest.mark.parametrize("sizes", [(12, 5), (5, 12), (5, 5)])
def test_slots_are_orthogonal_and_different(sizes: tuple[int, int]) -> None:
    torch.manual_seed(0)
    projection = DisentangledProjection(*sizes, num_slots=3)
    for weight in projection.weight:
        product = weight @ weight.T if sizes[0] > sizes[1] else weight.T @ weight
        torch.testing.assert_close(product, torch.eye(5))
    assert not torch.allclose(projection.weight[0], projection.weight[1])
    assert (projection.bias == 0).all()


@pytest.mark.parametrize("shared", [False, True])
def test_projection_is_one_affine_map_per_slot(shared: bool) -> None:
    torch.manual_seed(0)
    projection, inputs = DisentangledProjection(6, 4, num_slots=3, shared=shared), torch.randn(5, 6)
    projection.bias.data.normal_()
    result = projection(inputs)
    assert result.shape == (5, 3, 4)
    for slot in range(3):
        expected = inputs @ projection.weight[0 if shared else slot].T + projection.bias[slot]
        torch.testing.assert_close(result[:, slot], expected)


def test_shared_projection_starts_with_different_slots() -> None:
    projection = DisentangledProjection(6, 4, num_slots=3, shared=True)
    assert projection.weight.shape == (1, 4, 6)
    assert torch.pdist(projection(torch.randn(1, 6))[0]).min() > 0
