"""Tests of the prediction of missing texts and their target words."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from face_lightning.kernel_ridge import KernelRidge
from face_lightning.mapping.anchoring import LexicalTargets
from face_lightning.words.centering import center
from face_lightning.words.prediction import predict_targets, with_targets
from face_lightning.words.targets import lexical_targets, pursue


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def kernel_ridge(known: Tensor, values: Tensor, queries: Tensor, ridge: float = 0.3, max_points: int = 4096) -> Tensor:
    return KernelRidge.fit(known, values, ridge, max_points).predict(queries)


def test_kernel_ridge_by_its_formula() -> None:
    known, values, queries = random(12, 5), random(12, 3, seed=1), random(4, 5, seed=2)
    points, asked = (F.normalize(rows, dim=1).double().numpy() for rows in (known, queries))
    squares = ((points[:, None] - points) ** 2).sum(2)
    matrix = np.exp(-squares / squares.mean()) + 0.3 * np.eye(12)
    kernel = np.exp(-((asked[:, None] - points) ** 2).sum(2) / squares.mean())
    expected = kernel @ np.linalg.solve(matrix, values.double().numpy())
    torch.testing.assert_close(kernel_ridge(known, values, queries, 0.3), torch.from_numpy(expected).float())
    torch.testing.assert_close(kernel_ridge(3 * known, values, 5 * queries), kernel_ridge(known, values, queries))
    every_other = kernel_ridge(known[::2], values[::2], queries)
    assert torch.equal(kernel_ridge(known, values, queries, max_points=6), every_other)


def test_small_ridge_interpolates_and_equal_points_get_the_mean() -> None:
    known, values = random(12, 5), random(12, 3, seed=1)
    torch.testing.assert_close(kernel_ridge(known, values, known, 1e-6), values, rtol=1e-3, atol=1e-3)
    same = known[:1].expand(12, -1)
    torch.testing.assert_close(kernel_ridge(same, values, same[:2], 1e-6), values.mean(0).expand(2, -1))


LEMMAS = torch.arange(40) // 2


def space(vectors: Tensor, present: Tensor, num_users: int) -> Any:
    words = center(random(40, 6, seed=7))
    kinds = vectors.masked_fill(~present[:, None], torch.nan).split([num_users, len(vectors) - num_users])
    targets = LexicalTargets(*map(torch.cat, zip(*(lexical_targets(kind, words, 4, 8) for kind in kinds), strict=True)))
    texts = SimpleNamespace(vectors=vectors, present=present, num_users=num_users)
    return SimpleNamespace(texts=texts, targets=targets, word_vectors=SimpleNamespace(vectors=words, lemmas=LEMMAS))


def clicks(num_users: int, num_items: int) -> Tensor:
    """Random user ids and item ids `(2, N)`; the first user has no interactions."""
    cells = random(num_users, num_items, seed=5) > 0.3
    cells[0] = False
    return cells.nonzero().T


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)


def around_users(texts: np.ndarray, known: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """Mean text of each user's items with text, centered over users with such items."""
    liked = [row & known for row in cells]
    means = np.stack([texts[row].mean(0) if row.any() else np.full(texts.shape[1], np.nan) for row in liked])
    return unit(np.nan_to_num(means - np.nanmean(means, axis=0)))


def around_items(texts: np.ndarray, known: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """Mean over an item's users of the mean text of their other items with text, centered over items that have one."""
    means = np.full(texts.shape, np.nan)
    for item in range(len(texts)):
        others = [row & known & (np.arange(len(texts)) != item) for row in cells if row[item]]
        found = [texts[row].mean(0) for row in others if row.any()]
        if found:
            means[item] = np.mean(found, axis=0)
    return unit(np.nan_to_num(means - np.nanmean(means[known], axis=0)))


def test_targets_of_entities_without_text_are_words_of_the_predicted_vectors() -> None:
    """Items are predicted from items, users from both; expected values by loops over users and items."""
    vectors, embeddings, interactions = F.normalize(random(30, 6), dim=1), random(30, 5, seed=3), clicks(12, 18)
    present = torch.ones(30, dtype=torch.bool)
    present[[0, 2, 15, 20]] = False
    given = space(vectors, present, 12)
    predicted = predict_targets(given, embeddings, interactions, 0.3, 8)
    cells = np.zeros((12, 18), bool)
    cells[interactions[0], interactions[1]] = True
    centered = torch.zeros(30, 6)
    for kind in (slice(12), slice(12, 30)):
        known = present.clone()
        known[: kind.start or 0], known[kind.stop :] = False, False
        centered[known] = center(vectors[known])
    texts, known_items = centered[12:].numpy(), present[12:].numpy()
    inputs = [
        np.concatenate([unit(embeddings.numpy()), np.concatenate([around, own])], axis=1)
        for around, own in (
            (around_users(texts, known_items, cells), texts),
            (np.zeros((12, 6)), around_items(texts, known_items, cells)),
        )
    ]
    of_items = present & (torch.arange(30) >= 12)
    wanted = [
        kernel_ridge(torch.from_numpy(rows[sources]).float(), centered[sources], torch.from_numpy(rows[asked]).float())
        for rows, sources, asked in ((inputs[0], present, [0, 2]), (inputs[1], of_items, [15, 20]))
    ]
    words = given.word_vectors.vectors
    assert torch.equal(predicted, pursue(F.normalize(torch.cat(wanted), dim=1), words, 4, 16, LEMMAS))
    targets = with_targets(given.targets, present, predicted)
    assert torch.equal(targets.tokens[~present], predicted)
    assert torch.equal(targets.tokens[present], given.targets.tokens[present])
    assert (targets.probabilities == 0.25).all()
    assert (given.targets.probabilities[~present] == 0).all(), "the given targets are unchanged"


@pytest.mark.parametrize("ridge", [0.1, 1.0])
def test_items_have_no_targets_if_no_item_has_a_text(ridge: float) -> None:
    vectors, present = F.normalize(random(10, 6), dim=1), torch.arange(10) < 5
    present[0] = False
    given = space(vectors, present, 5)
    predicted = predict_targets(given, random(10, 5, seed=3), clicks(5, 5), ridge, 8)
    assert (predicted[0] >= 0).all()
    assert (predicted[1:] == -1).all()
    targets = with_targets(given.targets, present, predicted)
    assert (targets.tokens >= 0).all()
    assert targets.probabilities.sum(1).tolist() == [1.0] * 5 + [0.0] * 5
