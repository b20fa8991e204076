"""State of one visitor: the subject, the words changed by the visitor, and the recommendations that result."""

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np

from face_lightning.app.explorer import Entity, Explorer
from face_lightning.errors import CheckpointError, DataError
from face_lightning.plain_text import printable

MOST_WEIGHT = 3
_NUM_INITIAL_RANKS = 1000  # length of the ranking before changes that ranks are compared with
_NEIGHBOURS = 6


class Row(NamedTuple):
    """A recommended item.

    Attributes:
        item: The item.
        rank: Rank of the item, from 1.
        before: Rank before words were changed; None if it was not among the first 1000.
        shared: Words of the item that the subject also has, changes included.
    """

    item: Entity
    rank: int
    before: int | None
    shared: list[str]


@dataclass
class Visit:
    """The subject that a visitor looks at: a user, an item, or a new user with some items.

    Attributes:
        explorer: The run to explore.
        kind: "user", "item", or "new" for a new user.
        ids: Original id of the user or item, or ids of the new user's items.
        weights: Weights of changed words: positive for more, negative for less.
        strength: Strength of steering by the changed words, from 0 to 1.
        own_words: Words of the subject before changes; those of a new user are inferred.
    """

    explorer: Explorer
    kind: Literal["user", "item", "new"] = "new"
    ids: list[str] = field(default_factory=list)
    weights: dict[str, int] = field(default_factory=dict)
    strength: float = 0.5
    own_words: list[str] = field(default_factory=list)
    _initial_ranking: list[str] = field(default_factory=list)

    def open(self, kind: Literal["user", "item", "new"], ids: list[str]) -> None:
        """Change the subject, and discard all changes of words.

        Raises:
            DataError: If an id is unknown.
        """
        entities = self.explorer.recommender.entities
        rows = entities.user_rows if kind == "user" else entities.item_rows
        for identifier in ids:
            if identifier not in rows:
                raise DataError(f"{kind}: {printable(identifier)} is not in this run; search for its name")
        self.kind, self.ids, self.weights = kind, list(ids), {}
        self.own_words, self._initial_ranking = self._own_words(), self._ranking(_NUM_INITIAL_RANKS)

    def change(self, word: str, weight: int) -> None:
        """Set the weight of a word: positive for more of it, negative for less, 0 to reset it.

        Raises:
            DataError: If no user and no item has the word.
        """
        word = word.strip().lower()
        if weight and word not in self.explorer.known_words:
            raise DataError(f"word: no user or item has the word {printable(word)!r}; choose one that is suggested")
        self.weights.pop(word, None)
        if weight:
            self.weights[word] = max(-MOST_WEIGHT, min(MOST_WEIGHT, weight))

    def words(self) -> list[str]:
        """Words of the subject after changes: first those with a positive weight, then the unchanged ones."""
        wanted = [word for word, weight in self.weights.items() if weight > 0]
        return [*wanted, *(word for word in self.own_words if word not in self.weights)]

    def neighbours(self) -> list[Entity]:
        """The users or items most similar to the subject; none for a new user."""
        recommender = self.explorer.recommender
        if self.kind == "new":
            return []
        if self.kind == "item":
            count = min(_NEIGHBOURS, len(recommender.entities.item_ids) - 1)
            return self.explorer.entities("item", _without_padding(recommender.similar_items(self.ids, count).ids[0]))
        count = min(_NEIGHBOURS, len(recommender.entities.user_ids) - 1)
        return self.explorer.entities("user", _without_padding(recommender.similar_users(self.ids, count).ids[0]))

    def recommend(self, k: int = 20) -> list[Row]:
        """Recommend items to the subject, steered by changed words; for an item, to a user who only has this item."""
        ranking = self._ranking(k) if self.weights else self._initial_ranking[:k]
        initial_ranks = {identifier: rank for rank, identifier in enumerate(self._initial_ranking, start=1)}
        words = set(self.words())
        return [
            Row(item, rank, initial_ranks.get(item.id), [word for word in item.words if word in words])
            for rank, item in enumerate(self.explorer.entities("item", ranking), start=1)
        ]

    def _own_words(self) -> list[str]:
        if not self.explorer.has_words or not self.ids:
            return []
        if self.kind == "new":
            try:
                (description,) = self.explorer.recommender.describe_history([self.ids])
            except CheckpointError:
                return []  # the run has no mapper
            return [printable(word) for word in description.words]
        return self.explorer.entities(self.kind, self.ids)[0].words

    def _ranking(self, k: int) -> list[str]:
        """Ids of the top items, steered by changed words, best first; none for a new user without items and words."""
        if not self.ids and not self.weights:
            return []
        who = self.ids[0] if self.kind == "user" else self.ids or None
        more, less = ([word for word, weight in self.weights.items() for _ in range(sign * weight)] for sign in (1, -1))
        recommender = self.explorer.recommender
        k = min(k, len(recommender.entities.item_ids))
        ids: list[str] = recommender.steer(who, more, less, self.strength, k).ids.tolist()
        return ids


def _without_padding(ids: np.ndarray) -> list[str]:
    return [identifier for identifier in ids.tolist() if identifier is not None]
