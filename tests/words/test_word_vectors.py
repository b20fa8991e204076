"""Tests of word vectors against loops and by hand."""

import itertools

import torch
import torch.nn.functional as F

from face_lightning.words.centering import center
from face_lightning.words.word_vectors import WordVectors


def test_expected_vectors_equal_a_loop_over_near_words() -> None:
    torch.manual_seed(0)
    concepts, codes = (F.normalize(torch.randn(shape), dim=-1) for shape in ((3, 2, 5), (9, 5)))
    near = torch.stack([torch.randperm(9)[:4] for _ in range(6)]).view(3, 2, 4)
    words = WordVectors([str(row) for row in range(9)], torch.randn(9, 7), temperature=0.3)
    expected = torch.zeros(3, 7)
    for entity, slot in itertools.product(range(3), range(2)):
        tokens = near[entity, slot].tolist()
        weights = [torch.exp(concepts[entity, slot] @ codes[token] / 0.3) for token in tokens]
        for token, weight in zip(tokens, weights, strict=True):
            expected[entity] += weight / sum(weights) * words.vectors[token] / 2
    torch.testing.assert_close(words.expected(concepts, codes, near), expected)
    alone = words.expected(concepts, codes, near[:, :, :1])
    torch.testing.assert_close(center(alone), words.means(near[:, :, 0]))


def test_words_are_sorted_by_similarity_to_the_entitys_mean() -> None:
    words = WordVectors(("zombie", "undead", "ale", "car", "truck"), torch.zeros(5, 3), temperature=1.0)
    words.vectors = torch.tensor([[1, 0, 0], [0.9, 0.4, 0], [0, 0, 1], [0, 1, 0], [0, 0.9, 0.4]])
    shown = words.sorted_words(torch.tensor([[2, 0, 1], [4, 3, 0]]))
    assert shown == [["zombie", "undead", "ale"], ["car", "truck", "zombie"]]
    assert words.sorted_words(torch.tensor([[2, 0]])) == [["ale", "zombie"]]  # ties keep the order of slots


def test_whitened_words_equal_the_singular_vectors() -> None:
    torch.manual_seed(1)
    words = WordVectors([str(row) for row in range(9)], torch.randn(9, 5) * torch.tensor([9.0, 5, 3, 1, 0.5]), 1.0)
    vectors = words.vectors.double()
    left = torch.linalg.svd(vectors - vectors.mean(0), full_matrices=False)[0]
    left = F.normalize(left, dim=1)
    white = words.whitened().vectors.double()
    torch.testing.assert_close(white @ white.T, left @ left.T, atol=1e-4, rtol=0)
    assert torch.equal(words.vectors.double(), vectors), "the original is unchanged"
