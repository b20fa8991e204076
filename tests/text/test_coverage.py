import pytest
import torch

from face_lightning.text.coverage import coverage, near_duplicates
from face_lightning.text.vocabulary import Codebook

for package in ("wordfreq", "lemminflect", "textblob"):
    pytest.importorskip(package)


def test_content_words_are_counted_once_per_text() -> None:
    texts = ["A dark THRILLER about a dragon; dragon!", None, "The dragon and the anime.", "Quickly, of the."]
    found = coverage({"dragon", "dark", "robot"}, texts)
    # content: dark 1, thriller 1, dragon 2, anime 1; "about", "the", "and", "of" are stop words, "quickly" an adverb
    assert (found.num_texts, found.num_words, found.num_covered) == (3, 4, 2)
    assert found.share_of_words == 2 / 4
    assert found.share_of_occurrences == 3 / 5
    assert found.missing == (("anime", 1), ("thriller", 1))
    assert coverage({"dragon"}, texts, num_missing=1).missing == (("anime", 1),)


def test_coverage_without_texts_is_zero() -> None:
    found = coverage({"dragon"}, [None])
    assert (found.num_texts, found.share_of_words, found.share_of_occurrences) == (0, 0.0, 0.0)


def test_near_duplicates_are_pairs_above_the_threshold() -> None:
    # Centered already: the rows sum to zero. Cosines: 0/1 0.6, 0/2 and 1/3 -0.6, 0/3 and 1/2 -1
    table = torch.tensor([[5.0, 0.0], [3.0, 4.0], [-3.0, -4.0], [-5.0, 0.0]])
    codebook = Codebook(("toy", "toys", "war", "better"), torch.arange(4), table, "", torch.arange(4))
    found = near_duplicates(codebook, threshold=0.59)
    assert found.pairs == (("war", "better", pytest.approx(0.6)), ("toy", "toys", pytest.approx(0.6)))
    assert (found.num_near, found.num_inflections) == (2, 1)
    assert near_duplicates(codebook, threshold=0.61).num_near == 0
    assert len(near_duplicates(codebook, threshold=0.59, num_pairs=1).pairs) == 1


def test_tiles_find_every_pair_once() -> None:
    table = torch.nn.functional.one_hot(torch.arange(2_100) % 1_050).float()
    words = tuple(f"w{i}" for i in range(2_100))
    found = near_duplicates(Codebook(words, torch.arange(2_100), table, "", torch.arange(2_100)), num_pairs=2_000)
    assert found.num_near == len(found.pairs) == 1_050
    assert {(a, b) for a, b, _ in found.pairs} == {(f"w{i}", f"w{i + 1050}") for i in range(1_050)}
