from hypothesis import given
from hypothesis import strategies as st

from face_lightning.words.questions import ask_detection, ask_intrusion, ask_retrieval

TEXTS = [f"text {number % 12}" for number in range(14)]  # two texts occur twice
WORDS = [[f"w{number}-{place}" for place in range(6)] for number in range(14)]


@given(st.integers(2, 12), st.integers(0, 2**31))
def test_answer_is_the_index_of_the_own_text_among_distinct_ones(num_candidates: int, seed: int) -> None:
    questions = ask_retrieval(TEXTS, WORDS, num_candidates, seed)
    assert [question.options[question.answer] for question in questions] == TEXTS
    assert all(len(set(question.options)) == num_candidates for question in questions)
    assert questions[3].context == "w3-0, w3-1, w3-2, w3-3, w3-4, w3-5"


def test_all_sources_of_words_get_the_same_candidates() -> None:
    ours, theirs = (ask_retrieval(TEXTS, words, 5, 0) for words in (WORDS, [*WORDS[1:], WORDS[0]]))
    assert [one.options for one in ours] == [one.options for one in theirs]
    assert len(ask_retrieval(TEXTS, [[], *WORDS[1:]], 5, 0)) == 13, "entities without words are skipped"
    places = [question.answer for question in ask_retrieval(TEXTS * 20, WORDS * 20, 4, 0)]
    assert all(50 < places.count(place) < 90 for place in range(4))


@given(st.integers(0, 2**31))
def test_the_intruder_is_the_only_foreign_word(seed: int) -> None:
    for row, question in enumerate(ask_intrusion(WORDS, seed)):
        foreign = [place for place, word in enumerate(question.options) if word not in WORDS[row][:5]]
        assert foreign == [question.answer]
        assert len(question.options) == 6
        assert question.options[question.answer] not in WORDS[row]


@given(st.integers(0, 2**31))
def test_one_of_two_words_is_the_entitys_own(seed: int) -> None:
    for row, question in enumerate(ask_detection(TEXTS, WORDS, seed)):
        assert question.context == TEXTS[row]
        assert [word in WORDS[row] for word in question.options] == [question.answer == 0, question.answer == 1]


def test_without_a_foreign_word_there_is_no_question() -> None:
    assert ask_intrusion([WORDS[0]] * 3, 0) == ask_detection(TEXTS[:3], [WORDS[0]] * 3, 0) == []
    assert ask_intrusion([["a", "b"]] * 3, 0) == []
