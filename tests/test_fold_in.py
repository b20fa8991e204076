from itertools import pairwise

import numpy as np
import torch

from face_lightning.fold_in import FoldIn, LeastSquaresFoldIn


def histories(num_users: int, num_items: int) -> tuple[np.ndarray, np.ndarray]:
    draws = np.random.default_rng(0)
    liked = draws.random((num_users, num_items)) < 0.3
    return np.concatenate([[0], liked.sum(1).cumsum()]), np.nonzero(liked)[1]


def test_fold_in_recovers_a_linear_map() -> None:
    generator = torch.Generator().manual_seed(0)
    items, hidden = torch.randn(40, 4, generator=generator), torch.randn(4, 4, generator=generator)
    starts, rows = histories(600, 40)
    users = torch.stack(
        [items[rows[start:end]].sum(0) @ hidden / max(1, end - start) ** 0.5 for start, end in pairwise(starts)]
    )
    fold_in = FoldIn(items, users, starts, rows)
    new = np.array([0, 5, 7, 3, 9])
    found = fold_in.embed(new, np.array([3, 2]))
    expected = torch.stack([items[[0, 5, 7]].sum(0) / 3**0.5, items[[3, 9]].sum(0) / 2**0.5]) @ hidden
    assert torch.cosine_similarity(found, expected).min() > 0.99
    torch.testing.assert_close(found, expected, rtol=0.1, atol=0.1)  # the ridge shrinks a little


def test_users_without_items_and_degenerate_tables() -> None:
    items, users = torch.ones(5, 3), torch.ones(4, 3)
    starts = np.array([0, 0, 2, 3, 3])
    found = FoldIn(items, users, starts, np.array([1, 4, 0])).embed(np.array([2]), np.array([1]))
    assert torch.isfinite(found).all()
    nothing = FoldIn(torch.zeros(5, 3), users, starts, np.array([1, 4, 0])).embed(np.array([2]), np.array([1]))
    assert torch.equal(nothing, torch.zeros(1, 3))


def test_many_users_are_sampled_evenly(monkeypatch: object) -> None:
    starts, rows = histories(200, 30)
    items, users = torch.randn(30, 4), torch.randn(200, 4)
    few = FoldIn(items, users[::4], np.concatenate([[0], np.diff(starts)[::4].cumsum()]), _every_fourth(starts, rows))
    monkeypatch.setattr("face_lightning.fold_in._MAX_ENTITIES", 50)  # type: ignore[attr-defined]
    sampled = FoldIn(items, users, starts, rows)
    query = np.array([1, 2, 3]), np.array([3])
    torch.testing.assert_close(sampled.embed(*query), few.embed(*query))


def _every_fourth(starts: np.ndarray, rows: np.ndarray) -> np.ndarray:
    return np.concatenate([rows[starts[user] : starts[user + 1]] for user in range(0, len(starts) - 1, 4)])


def test_least_squares_for_histories_of_any_length_in_any_order(monkeypatch: object) -> None:
    starts, rows = histories(20, 30)
    fold_in = LeastSquaresFoldIn(torch.randn(30, 4), starts, 0.1, 2.0, 0.5)
    whole = fold_in.embed(rows, np.diff(starts))
    monkeypatch.setattr("face_lightning.fold_in._TILE", 20)  # type: ignore[attr-defined]
    torch.testing.assert_close(fold_in.embed(rows, np.diff(starts)), whole)
    for user in (0, 7, 19):
        alone = fold_in.embed(rows[starts[user] : starts[user + 1]], np.diff(starts)[user : user + 1])
        torch.testing.assert_close(alone[0], whole[user])


def test_least_squares_without_items_is_zero(monkeypatch: object) -> None:
    starts, _ = histories(6, 30)
    fold_in = LeastSquaresFoldIn(torch.randn(30, 4), starts, 0.1, 2.0, 0.5)
    monkeypatch.setattr("face_lightning.fold_in._TILE", 2)  # type: ignore[attr-defined]
    found = fold_in.embed(np.array([4, 7]), np.array([0, 2, 0, 0]))
    assert torch.equal(found[[0, 2, 3]], torch.zeros(3, 4))
    torch.testing.assert_close(found[1:2], fold_in.embed(np.array([4, 7]), np.array([2])))
