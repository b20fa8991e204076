"""Multiple-choice questions about the words of entities, for judges independent of the training."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

Task = Literal["retrieval", "intrusion", "detection"]
NUM_INTRUDED = 5  # words of the entity itself in an intrusion question


@dataclass(frozen=True)
class Question:
    """A question with one correct option.

    Attributes:
        task: "retrieval": which text do the words describe; "intrusion": which word does not belong with the others;
            "detection": which word fits the text better.
        context: The words for "retrieval", empty for "intrusion", the text for "detection".
        options: Texts for "retrieval", six words for "intrusion", two words for "detection".
        answer: Index of the correct option.
    """

    task: Task
    context: str
    options: tuple[str, ...]
    answer: int


def ask_retrieval(
    texts: Sequence[str], words: Sequence[Sequence[str]], num_candidates: int, seed: int
) -> list[Question]:
    """Ask for each entity with words which of n texts they describe.

    Args:
        texts: Text of each entity, at least `num_candidates` different ones.
        words: Words of each entity, best first.
        num_candidates: Number of texts n: the correct one and n - 1 drawn at random.
        seed: Seed of the draw, which does not depend on the words: all sources of words get the same candidates.
    """
    distinct = sorted(set(texts))
    questions = []
    for row, (text, own) in enumerate(zip(texts, words, strict=True)):
        draws = np.random.default_rng([seed, num_candidates, row])
        others = [distinct[index] for index in draws.permutation(len(distinct))[:num_candidates]]
        others = [other for other in others if other != text][: num_candidates - 1]
        answer = int(draws.integers(num_candidates))
        if own:
            options = (*others[:answer], text, *others[answer:])
            questions.append(Question("retrieval", ", ".join(own), options, answer))
    return questions


def ask_intrusion(words: Sequence[Sequence[str]], seed: int) -> list[Question]:
    """Ask which of six words is the intruder: five are the first words of an entity, one is another entity's.

    Reference:
        Chang et al., "Reading Tea Leaves: How Humans Interpret Topic Models", NeurIPS 2009.

    Args:
        words: Words of each entity, best first; entities with fewer than five are skipped.
        seed: Seed of the draws.
    """
    questions = []
    for row, own in enumerate(words):
        if len(own) >= NUM_INTRUDED:
            draws = np.random.default_rng([seed, 1, row])
            foreign = _foreign_word(words, row, draws)
            if foreign is not None:
                answer = int(draws.integers(NUM_INTRUDED + 1))
                kept = [own[index] for index in draws.permutation(NUM_INTRUDED)]
                questions.append(Question("intrusion", "", (*kept[:answer], foreign, *kept[answer:]), answer))
    return questions


def ask_detection(texts: Sequence[str], words: Sequence[Sequence[str]], seed: int) -> list[Question]:
    """Ask which of two words, the entity's own or another entity's, fits the entity's text.

    Args:
        texts: Text of each entity.
        words: Words of each entity; entities without words are skipped.
        seed: Seed of the draws.
    """
    questions = []
    for row, (text, own) in enumerate(zip(texts, words, strict=True)):
        draws = np.random.default_rng([seed, 2, row])
        foreign = _foreign_word(words, row, draws)
        if own and foreign is not None:
            mine, answer = own[int(draws.integers(len(own)))], int(draws.integers(2))
            questions.append(Question("detection", text, (foreign, mine) if answer else (mine, foreign), answer))
    return questions


def _foreign_word(words: Sequence[Sequence[str]], row: int, draws: np.random.Generator) -> str | None:
    """Draw a word of another entity that the entity at `row` does not have; None if 50 draws find none."""
    for _ in range(50):
        other = words[int(draws.integers(len(words)))]
        if other:
            word = other[int(draws.integers(len(other)))]
            if word not in words[row]:
                return word
    return None
