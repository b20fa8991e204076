"""Counts, shared sets and samples of words, on a run that is small enough to check by eye."""

import numpy as np
import pyarrow as pa
import pytest
import torch

from face_lightning.reports.word_samples import count_words, draw_samples, shared_sets, text_margins
from face_lightning.text.vocabulary import Codebook

ROWS = [
    {"kind": "user", "id": "ann", "label": "Ann", "words": ["war", "toy"], "text": None},
    {"kind": "item", "id": "1", "label": "A", "words": ["war", "toy"], "text": "A war film."},
    {"kind": "item", "id": "2", "label": "B", "words": ["toy", "war"], "text": "A toy film with a sea."},
    {"kind": "item", "id": "3", "label": "C", "words": ["sea", "toy"], "text": "The sea"},
    {"kind": "item", "id": "4", "label": "D", "words": ["sea", "sun"], "text": "Nothing known"},
]
TABLE = pa.Table.from_pylist(ROWS)
WORDS = ("war", "toy", "sea", "sun")
CODEBOOK = Codebook(WORDS, torch.arange(4), torch.eye(4), "f", torch.arange(4))


def test_words_are_counted_per_kind_and_ties_are_alphabetical() -> None:
    assert [tuple(found) for found in count_words(TABLE, "item")] == [
        ("toy", 3, 0.75),
        ("sea", 2, 0.5),
        ("war", 2, 0.5),
        ("sun", 1, 0.25),
    ]
    assert [found.word for found in count_words(TABLE, "user")] == ["toy", "war"]


def test_shared_sets_do_not_depend_on_the_order() -> None:
    assert shared_sets(TABLE, "item") == [(["toy", "war"], ["A", "B"])]
    assert shared_sets(TABLE, "user") == []


def test_margins_compare_the_own_text_with_the_nearest_other() -> None:
    items = TABLE.slice(1)
    tokens = torch.eye(4) - torch.eye(4).mean(0)
    tokens /= tokens.norm(dim=1, keepdim=True)
    vectors = dict(zip(WORDS, tokens.numpy(), strict=True))

    def mean(*words: str) -> np.ndarray:
        total = sum(vectors[word] for word in words)
        return total / np.linalg.norm(total)

    texts = [mean("war"), mean("toy", "sea"), mean("sea")]
    expected = []
    for row, words in enumerate((("war", "toy"), ("toy", "war"), ("sea", "toy"))):
        cosines = [float(mean(*words) @ text) for text in texts]
        expected.append(cosines.pop(row) - max(cosines))
    found = text_margins(items, CODEBOOK)
    assert found[:3] == pytest.approx(expected, abs=1e-6)
    assert np.isnan(found[3])  # none of its text's words are in the vocabulary


def test_samples_go_from_best_to_worst_and_the_random_one_needs_no_vocabulary() -> None:
    samples = draw_samples(TABLE, "item", CODEBOOK, number=1)
    margins = text_margins(TABLE.slice(1), CODEBOOK)[:3]
    assert samples["best"][0].margin == pytest.approx(margins.max())
    assert samples["worst"][0].margin == pytest.approx(margins.min())
    assert list(draw_samples(TABLE, "item", None, number=2)) == ["random"]
