import torch
import torch.nn.functional as F

from face_lightning.kernel_ridge import KernelRidge


def test_predictions_solve_the_regularised_system() -> None:
    draws = torch.Generator().manual_seed(0)
    points, values = torch.randn(9, 3, generator=draws), torch.randn(9, 2, generator=draws)
    queries = torch.randn(4, 3, generator=draws)
    unit, asked = F.normalize(points, dim=1), F.normalize(queries, dim=1)
    distances = torch.cdist(unit, unit).square()
    kernel, to_queries = (torch.exp(-d / distances.mean()) for d in (distances, torch.cdist(asked, unit).square()))
    expected = to_queries @ torch.linalg.inv(kernel + 0.3 * torch.eye(9)) @ values
    assert torch.allclose(KernelRidge.fit(points, values).predict(queries), expected, atol=1e-5)


def test_max_points_selects_evenly_spaced_points() -> None:
    draws = torch.Generator().manual_seed(0)
    points, values = torch.randn(9, 3, generator=draws), torch.randn(9, 2, generator=draws)
    expected = KernelRidge.fit(points[::3], values[::3]).predict(points)
    assert torch.equal(KernelRidge.fit(points, values, max_points=3).predict(points), expected)
