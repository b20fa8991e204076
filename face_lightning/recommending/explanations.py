"""Explanations of a recommendation by the words that a user and an item have in common."""

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor


class Link(NamedTuple):
    """A word of a user and a word of an item with similar meanings.

    Attributes:
        user_word: Word of the user.
        item_word: Word of the item; equal to `user_word` if they share it.
        similarity: Cosine similarity of the meanings of both words.
    """

    user_word: str
    item_word: str
    similarity: float


class Explanation(NamedTuple):
    """Why an item suits a user.

    Attributes:
        user_words: Words of the user.
        item_words: Words of the item.
        links: Closest pairs of words, the closest first; no word occurs in two pairs.
        score: Inner product of the embeddings.
        rank: Rank of the item among all items for the user, from 1, seen items included.
    """

    user_words: list[str]
    item_words: list[str]
    links: list[Link]
    score: float
    rank: int


def link_words(user_words: Sequence[str], item_words: Sequence[str], similarity: Tensor, most: int = 3) -> list[Link]:
    """Match the words of a user and an item greedily by similarity; no word is used twice.

    Args:
        user_words: N words.
        item_words: M words.
        similarity: Cosine similarities of their meanings `(N, M)`.
        most: Maximum number of pairs.
    """
    links: list[Link] = []
    for cell in similarity.flatten().argsort(descending=True, stable=True).tolist():
        user_word, item_word = user_words[cell // len(item_words)], item_words[cell % len(item_words)]
        if all(user_word != link.user_word and item_word != link.item_word for link in links):
            links.append(Link(user_word, item_word, float(similarity.flatten()[cell])))
        if len(links) == most:
            break
    return links


def explanation_text(explanation: Explanation, user: str, item: str) -> str:
    """Format an explanation as one sentence, by a template.

    Args:
        explanation: The explanation.
        user: Name of the user.
        item: Name of the item.
    """
    shared = [link.item_word for link in explanation.links if link.user_word == link.item_word]
    close = [f"{link.user_word} and {link.item_word}" for link in explanation.links if link.user_word != link.item_word]
    reasons = [f"both are described by {', '.join(shared)}"] if shared else []
    if close:
        reasons.append(f"words of the user and of the item are close: {', '.join(close)}")
    return f"{item} is number {explanation.rank:,} for user {user}: {'; '.join(reasons)}."
