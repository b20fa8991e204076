import math

import pytest

from face_lightning.words.coherence import TextStatistics

TEXTS = ["Dragon and knight, dragon!", "A dragon's knight", "dragon ship", "The ship of war", "nothing"]


def test_npmi_by_hand() -> None:
    found = TextStatistics(TEXTS, ["dragon", "knight", "ship", "war", "robot"])
    # dragon in texts 0, 1, 2; knight in 0, 1; ship in 2, 3; war in 3
    npmi = {
        ("dragon", "knight"): math.log((2 / 5) / (3 / 5 * 2 / 5)) / -math.log(2 / 5),
        ("dragon", "ship"): math.log((1 / 5) / (3 / 5 * 2 / 5)) / -math.log(1 / 5),
        ("knight", "ship"): -1.0,
        ("ship", "war"): math.log((1 / 5) / (2 / 5 * 1 / 5)) / -math.log(1 / 5),
    }
    for words, expected in npmi.items():
        assert found.coherence(words) == pytest.approx(expected)
    three = [npmi["dragon", "knight"], npmi["dragon", "ship"], npmi["knight", "ship"]]
    assert found.coherence(["dragon", "knight", "ship", "robot"]) == pytest.approx(sum(three) / 3)
    assert found.coherence(["dragon", "robot"]) is None, "only one word occurs"


def test_words_of_identical_texts_have_coherence_one() -> None:
    assert TextStatistics(["a b", "a b"], ["a", "b"]).coherence(["a", "b"]) == 1.0
    assert TextStatistics(["a b", "c"], ["a", "b"]).coherence(["a", "b"]) == pytest.approx(1.0)


def test_tf_idf_prefers_words_frequent_in_the_text_and_rare_elsewhere() -> None:
    found = TextStatistics(TEXTS, ["dragon", "knight", "ship", "war"])
    # text 0: dragon 2 log(6/4) = .81, knight log(6/3) = .69
    assert found.tf_idf_words(0, 16) == ["dragon", "knight"]
    assert found.tf_idf_words(3, 16) == ["war", "ship"]
    assert found.tf_idf_words(3, 1) == ["war"]
    assert found.tf_idf_words(4, 16) == []
