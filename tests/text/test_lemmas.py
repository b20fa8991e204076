import pytest

from face_lightning.text.lemmas import lemma_groups

pytest.importorskip("lemminflect")


@pytest.mark.parametrize(
    "words",
    [
        ["toy", "toys"],
        ["footballer", "footballers"],
        ["judgment", "judgement", "judgments"],
        ["color", "colours", "coloured"],
        ["theatre", "theaters"],
        ["catalogue", "catalogs"],
        ["travellers", "traveler"],
        ["organisation", "organizations"],
        ["defence", "defenses"],
        ["encyclopaedia", "encyclopedia"],
        ["gray", "grey"],
        ["leaf", "leaves", "leave"],
        ["good", "better", "best"],
    ],
)
def test_forms_and_spellings_of_a_word_are_one_group(words: list[str]) -> None:
    assert lemma_groups(words) == [0] * len(words)


def test_unrelated_words_have_separate_groups_numbered_by_occurrence() -> None:
    words = ["prize", "prise", "filling", "filing", "hour", "poem", "mother", "toy", "shoe", "acre", "toys", "wise"]
    assert lemma_groups(words) == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 7, 10]
    assert lemma_groups([]) == []


def test_groups_do_not_depend_on_the_order_of_words() -> None:
    words = ["leaves", "toy", "leaf", "war", "toys", "leave", "wars"]
    forward, backward = lemma_groups(words), lemma_groups(words[::-1])[::-1]
    pairs = [(one, other) for one in range(len(words)) for other in range(one)]
    assert [forward[a] == forward[b] for a, b in pairs] == [backward[a] == backward[b] for a, b in pairs]
