"""Tests of centering and of the detection of anisotropy."""

import torch
import torch.nn.functional as F

from face_lightning.words.centering import center, is_anisotropic


def test_anisotropy_is_a_threshold_on_mean_similarity() -> None:
    apart = torch.eye(4)
    near = F.normalize(apart + 3.0, dim=1)  # (3 + 3 + 9 + 9 + ...) / lengths: similarity of any two is 42 / 43
    missing = torch.full((1, 4), torch.nan)
    assert not is_anisotropic(apart)
    assert is_anisotropic(torch.cat([near, missing]))
    assert is_anisotropic(near, limit=42 / 43 - 1e-3)
    assert not is_anisotropic(near, limit=42 / 43 + 1e-3)
    assert not is_anisotropic(torch.cat([near[:1], missing]))


def test_vectors_are_centered_on_the_mean_of_present_rows() -> None:
    vectors = torch.tensor([[1.0, 0.0], [0.6, 0.8], [torch.nan, torch.nan]])
    expected = F.normalize(vectors[:2] - torch.tensor([0.8, 0.4]), dim=1)
    centered = center(vectors)
    assert torch.allclose(centered[:2], expected)
    assert bool(centered[2].isnan().all())
    assert bool(center(vectors[2:]).isnan().all())
