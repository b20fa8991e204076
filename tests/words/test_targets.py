from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from face_lightning.errors import ConfigurationError
from face_lightning.words import targets
from face_lightning.words.targets import lexical_targets

SEEDS = st.integers(0, 2**32 - 1)


def random(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def cosine(one: np.ndarray, other: np.ndarray) -> float:
    return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))


def unit_rows(vectors: np.ndarray) -> np.ndarray:
    centered = vectors - vectors.mean(0)
    return centered / np.linalg.norm(centered, axis=1, keepdims=True)


def naive_targets(texts: np.ndarray, words: np.ndarray, top_k: int, pool: int) -> list[list[int]]:
    words, chosen = unit_rows(words), []
    for text in unit_rows(texts):
        near = sorted(range(len(words)), key=lambda j: -cosine(words[j], text))[:pool]
        own: list[int] = []
        for _ in range(top_k):
            so_far = words[own].sum(0)
            left = [j for j in near if j not in own]
            own.append(max(left, key=lambda j: cosine(so_far + words[j], text)))
        chosen.append(own)
    return chosen


@given(SEEDS, st.integers(1, 6), st.integers(6, 12))
@settings(deadline=None, max_examples=25)
def test_targets_equal_a_naive_loop(seed: int, top_k: int, pool: int) -> None:
    texts, words = random(seed, 7, 6) + 1, random(seed + 1, 9, 6) - 2
    indices, probabilities = lexical_targets(texts.double(), words.double(), top_k, pool)
    assert indices.tolist() == naive_targets(texts.double().numpy(), words.double().numpy(), top_k, pool)
    torch.testing.assert_close(probabilities, torch.full((7, top_k), 1 / top_k))


@given(SEEDS)
@settings(deadline=None, max_examples=10)
def test_pool_of_size_k_gives_the_nearest_words(seed: int) -> None:
    texts, words = random(seed, 7, 6), random(seed + 1, 9, 6)
    near = (unit_rows(texts.numpy()) @ unit_rows(words.numpy()).T).argsort(1)[:, -4:]
    assert [set(row) for row in lexical_targets(texts, words, 4, 4)[0].tolist()] == [set(row) for row in near.tolist()]


@given(SEEDS, st.integers(1, 4))
@settings(deadline=None, max_examples=25)
def test_targets_have_different_lemmas(seed: int, pool: int) -> None:
    """The pool holds the nearest word of each lemma, so a pool of K words is the result."""
    lemmas = torch.tensor([0, 1, 1, 1, 2, 3, 3, 3, 3, 4])
    texts, words = random(seed, 7, 6).double(), random(seed + 1, 10, 6).double()
    indices = lexical_targets(texts, words, pool, pool, lemmas)[0]
    similarity = unit_rows(texts.numpy()) @ unit_rows(words.numpy()).T
    for row, chosen in zip(similarity, indices.tolist(), strict=True):
        best = [max(np.flatnonzero(lemmas == lemma), key=row.__getitem__) for lemma in range(5)]
        assert set(chosen) == set(sorted(best, key=lambda word: -row[word])[:pool])
    wide = lexical_targets(texts, words, pool, 5, lemmas)[0]
    assert all(len(set(row)) == pool for row in lemmas[wide].tolist())


def angles(*degrees: float) -> torch.Tensor:
    radians = torch.tensor(degrees).deg2rad()
    return torch.stack([radians.cos(), radians.sin()], dim=1)


def test_targets_cover_both_aspects_of_a_text() -> None:
    # Words in opposite directions, so that their mean is 0; the texts are at 0 and 180 degrees. Nearest are 10
    # and 12 degrees, but the sum of 10 and -15 points to -2.5.
    words = angles(10, 12, -15, 190, 192, 165)
    assert lexical_targets(angles(0, 180), words, 2, 2)[0].tolist() == [[0, 1], [3, 4]]
    assert lexical_targets(angles(0, 180), words, 2, 3)[0].tolist() == [[0, 2], [3, 5]]


def test_missing_texts_have_no_targets_and_do_not_affect_others() -> None:
    texts, words = random(0, 5, 6), random(1, 9, 6)
    alone = lexical_targets(texts[[0, 2, 4]], words, 4)
    texts[[1, 3]] = torch.nan
    indices, probabilities = lexical_targets(texts, words, 4)
    assert torch.equal(indices[[0, 2, 4]], alone[0])
    torch.testing.assert_close(probabilities[[0, 2, 4]], alone[1])
    assert (probabilities[[1, 3]] == 0).all()
    assert ((indices >= 0) & (indices < 9)).all()
    assert lexical_targets(texts[[1, 3]], words, 4)[1].sum() == 0


def test_tiles_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    texts, words = random(0, 11, 6), random(1, 20, 6)
    whole = lexical_targets(texts, words, 4, 12)
    monkeypatch.setattr(targets, "_TILE", 100)
    tiled = lexical_targets(texts, words, 4, 12)
    assert torch.equal(whole[0], tiled[0])
    torch.testing.assert_close(whole[1], tiled[1])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"top_k": 0}, "top_k: expected 1 to 9"),
        ({"top_k": 10}, "top_k: expected 1 to 9"),
        ({"top_k": 3, "pool": 2}, "pool: expected at least 3"),
        ({"top_k": 3, "lemmas": torch.arange(9) % 2}, "top_k: expected 1 to 2, the lemmas"),
    ],
)
def test_invalid_settings_raise(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        lexical_targets(random(0, 3, 4), random(1, 9, 4), **arguments)
