"""Simulated sessions of `benchmarks.steering`: a user looks for one item and asks for one word per turn, up to five."""

import time
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from face_lightning.recommending.steering import Topic
from face_lightning.words.targets import pursue

if TYPE_CHECKING:
    from benchmarks.steering import Study

# Probability that a simulated user names a word of another item, by what the user goes by.
MISTAKES = {"text": 0.0, "words": 0.0, "words, a fifth wrong": 0.2, "words of another item": 1.0}
_MAX_TURNS, _NUM_WORDS, _STRENGTH = 5, 16, 0.65


def words_of_items(study: "Study") -> Tensor:
    """Vocabulary rows `(I, S)` of each item's words: those of the run, or words chosen for its text."""
    listed = study.recommender.words_of("items")
    if listed is not None:
        rows = {word: row for row, word in enumerate(study.codebook.words)}
        known = [[rows[word] for word in words if word in rows] for words in listed.to_pylist()]
        fewest = min(map(len, known))
        return torch.tensor([words[:fewest] for words in known])
    return pursue(study.meanings, study.words, _NUM_WORDS, 2 * _NUM_WORDS, study.codebook.lemmas)


def simulate(study: "Study", user: str, mistakes: float, num_sessions: int) -> dict[str, float]:
    """Simulate sessions: share of items that reach the top 10, turns until then, and milliseconds of an edit.

    Args:
        study: The study; users look for items of its split.
        user: "text": the user asks for the word of the vocabulary that best tells the item's text from those of the
            ten best. Anything else: for a word of the item that none of the ten best has, drawn at random.
        mistakes: Probability of a word of another item instead.
        num_sessions: Number of sessions.
    """
    draws = np.random.default_rng(1)
    of_items = words_of_items(study)
    turns, seconds = [], []
    for place in draws.permutation(len(study.users))[:num_sessions]:
        target = int(draws.choice(torch.nonzero(study.relevant[place]).flatten().numpy()))
        scores, asked, topics = study.scores[place], list[int](), list[Topic]()
        for turn in range(_MAX_TURNS + 1):
            best = scores.masked_fill(study.seen[place], -torch.inf).topk(10).indices
            if target in best.tolist() or turn == _MAX_TURNS:
                turns.append(turn if target in best.tolist() else _MAX_TURNS + 1)
                break
            if user == "text":
                contrast = study.words @ (study.meanings[target] - study.meanings[best].mean(0))
                contrast[asked] = -torch.inf
                word = int(contrast.argmax())
            else:
                wrong = draws.random() < mistakes
                word = _draw_word(of_items, int(draws.integers(len(of_items))) if wrong else target, best, asked, draws)
            asked.append(word)
            begin = time.perf_counter()
            topics.append(study.steering.topic(study.words[word]))
            scores = (1 - _STRENGTH) * study.scores[place] + _STRENGTH * study.steering.relevance(topics, [])
            seconds.append(time.perf_counter() - begin)
    reached = np.array(turns)
    return {
        "at_start": float((reached == 0).mean()),
        "within_5": float((reached <= _MAX_TURNS).mean()),
        "mean_turns": float(reached[reached <= _MAX_TURNS].mean()),
        "edit_ms": 1e3 * float(np.median(seconds)),
        "sessions": len(turns),
    }


def _draw_word(of_items: Tensor, item: int, best: Tensor, asked: list[int], draws: np.random.Generator) -> int:
    """A word of an item that was not asked for and, if possible, that none of the best items has."""
    open_words = [word for word in of_items[item].tolist() if word not in asked] or of_items[item].tolist()
    shown = set(of_items[best].flatten().tolist())
    return int(draws.choice([word for word in open_words if word not in shown] or open_words))
