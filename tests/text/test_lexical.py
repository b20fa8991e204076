import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from face_lightning.errors import ConfigurationError
from face_lightning.text import lexical
from face_lightning.text.lexical import lexical_targets

SEEDS = st.integers(0, 2**32 - 1)


def random(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def naive_targets(
    texts: np.ndarray, words: np.ndarray, top_k: int, temperature: float
) -> tuple[list[list[int]], list[list[float]]]:
    words = words - words.mean(0)
    texts = texts - texts.mean(0)
    indices, probabilities = [], []
    for text in texts:
        cosines = [float(text @ w / np.linalg.norm(text) / np.linalg.norm(w)) for w in words]
        nearest = sorted(range(len(words)), key=lambda j: -cosines[j])[:top_k]
        weights = [np.exp(cosines[j] / temperature) for j in nearest]
        indices.append(nearest)
        probabilities.append([w / sum(weights) for w in weights])
    return indices, probabilities


@given(SEEDS, st.integers(1, 9))
@settings(deadline=None, max_examples=25)
def test_targets_are_those_of_a_naive_loop(seed: int, top_k: int) -> None:
    texts, words = random(seed, 7, 6) + 1, random(seed + 1, 9, 6) - 2
    indices, probabilities = lexical_targets(texts, words, top_k, 0.2)
    expected, weights = naive_targets(texts.double().numpy(), words.double().numpy(), top_k, 0.2)
    assert indices.tolist() == expected
    torch.testing.assert_close(probabilities.double(), torch.tensor(weights).double(), atol=1e-4, rtol=0)


def test_missing_texts_have_no_words_and_do_not_move_the_others() -> None:
    texts, words = random(0, 5, 6), random(1, 9, 6)
    alone = lexical_targets(texts[[0, 2, 4]], words, 4)
    texts[[1, 3]] = torch.nan
    indices, probabilities = lexical_targets(texts, words, 4)
    assert torch.equal(indices[[0, 2, 4]], alone[0])
    torch.testing.assert_close(probabilities[[0, 2, 4]], alone[1])
    assert (probabilities[[1, 3]] == 0).all()
    assert ((indices >= 0) & (indices < 9)).all()
    assert lexical_targets(texts[[1, 3]], words, 4)[1].sum() == 0


@pytest.mark.parametrize("max_similarity", [1.0, 0.3])
def test_tiles_change_nothing(monkeypatch: pytest.MonkeyPatch, max_similarity: float) -> None:
    texts, words = random(0, 11, 6), random(1, 20, 6)
    whole = lexical_targets(texts, words, 4, max_similarity=max_similarity)
    monkeypatch.setattr(lexical, "_TILE", 100)
    tiled = lexical_targets(texts, words, 4, max_similarity=max_similarity)
    assert torch.equal(whole[0], tiled[0])
    torch.testing.assert_close(whole[1], tiled[1])


def angles(*degrees: float) -> torch.Tensor:
    radians = torch.tensor(degrees).deg2rad()
    return torch.stack([radians.cos(), radians.sin()], dim=1)


def test_words_that_repeat_a_nearer_word_are_passed_over() -> None:
    # Words in pairs of 10 degrees on opposite sides, so that their mean is 0; the texts lie at 0 and 180.
    words = angles(1, -9, 60, -70, 181, 171, 240, 110)
    texts = angles(0, 180)
    assert lexical_targets(texts, words, 2)[0].tolist() == [[0, 1], [4, 5]]
    indices, probabilities = lexical_targets(texts, words, 2, temperature=0.5, max_similarity=0.9)
    assert indices.tolist() == [[0, 2], [4, 6]]
    weights = torch.tensor([np.cos(np.pi / 180), 0.5]) / 0.5
    torch.testing.assert_close(probabilities[0], weights.softmax(0).float())
    # Three words wanted and the six nearest hold two besides the repeated one: 0, 2 and 3 at -70 degrees.
    assert lexical_targets(texts, words, 3, max_similarity=0.9)[0].tolist()[0] == [0, 2, 3]


def test_repeated_words_fill_up_without_weight() -> None:
    words = angles(1, -9, 5, 181, 171, 185)
    indices, probabilities = lexical_targets(angles(0, 180), words, 3, max_similarity=0.9)
    assert sorted(indices[0, 2:].tolist()) != [3]
    assert (probabilities[0] > 0).tolist() == [True, True, False]
    torch.testing.assert_close(probabilities.sum(1), torch.ones(2))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"top_k": 0}, "top_k: expected 1 to 9"),
        ({"top_k": 10}, "top_k: expected 1 to 9"),
        ({"top_k": 3, "temperature": 0.0}, "temperature: expected a positive number, got 0.0"),
        ({"top_k": 3, "max_similarity": -1.0}, "max_similarity: expected a positive number"),
    ],
)
def test_impossible_settings_are_told(arguments: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        lexical_targets(random(0, 3, 4), random(1, 9, 4), **arguments)  # type: ignore[arg-type]
