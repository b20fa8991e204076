"""Why an item suits a user: what the words of both have in common."""

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor


class Link(NamedTuple):
    """Two words of like meaning.

    Attributes:
        user_word: Word of the user.
        item_word: Word of the item; the same one where they share it.
        similarity: Cosine of their meanings.
    """

    user_word: str
    item_word: str
    similarity: float


class Explanation(NamedTuple):
    """Why an item suits a user.

    Attributes:
        user_words: Words of the user.
        item_words: Words of the item.
        links: Pairs of the closest words, none of which occurs twice, the closest first.
        score: Inner product of the embeddings.
        rank: Rank of the item among all items for the user, from 1; seen ones count.
    """

    user_words: list[str]
    item_words: list[str]
    links: list[Link]
    score: float
    rank: int


def link_words(user_words: Sequence[str], item_words: Sequence[str], similarity: Tensor, most: int = 3) -> list[Link]:
    """Pairs of the closest words, chosen one by one.

    Args:
        user_words: N words.
        item_words: M words.
        similarity: Cosines of their meanings `(N, M)`.
        most: Number of pairs.
    """
    links: list[Link] = []
    for place in similarity.flatten().argsort(descending=True, stable=True).tolist():
        first, second = user_words[place // len(item_words)], item_words[place % len(item_words)]
        if all(first != link.user_word and second != link.item_word for link in links):
            links.append(Link(first, second, float(similarity.flatten()[place])))
        if len(links) == most:
            break
    return links


def explanation_text(explanation: Explanation, user: str, item: str) -> str:
    """An explanation as one sentence, from a template.

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
