"""One visitor's view: whom he looks at, the words that he has changed, and the list that follows."""

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np

from face_lightning.app.explorer import Entity, Explorer
from face_lightning.errors import CheckpointError, DataError
from face_lightning.plain_text import printable

MOST_WEIGHT = 3
_KNOWN_RANKS = 1000  # of the list before changes
_NEIGHBOURS = 6


class Row(NamedTuple):
    """A recommended item.

    Attributes:
        item: The item.
        rank: Its place, from 1.
        before: Its place before words were changed; None where it was beyond those kept.
        shared: Its words that the subject has too, changes included.
    """

    item: Entity
    rank: int
    before: int | None
    shared: list[str]


@dataclass
class Visit:
    """Whom a visitor looks at: a user, an item, or a new user with some items of his own.

    Attributes:
        explorer: The run.
        kind: "user", "item", or "new" for a new user.
        ids: Original id of the user or item, or ids of the new user's items.
        weights: Words that were changed: positive for more, negative for less.
        strength: Share of the changed words in the list, from 0 to 1.
        own_words: Words of the subject before changes; a new user's through the mapper.
    """

    explorer: Explorer
    kind: Literal["user", "item", "new"] = "new"
    ids: list[str] = field(default_factory=list)
    weights: dict[str, int] = field(default_factory=dict)
    strength: float = 0.5
    own_words: list[str] = field(default_factory=list)
    _before: list[str] = field(default_factory=list)

    def open(self, kind: Literal["user", "item", "new"], ids: list[str]) -> None:
        """Look at somebody else, with no word changed.

        Raises:
            DataError: If an id is unknown.
        """
        known = self.explorer.recommender.entities
        rows = known.user_rows if kind == "user" else known.item_rows
        for identifier in ids:
            if identifier not in rows:
                raise DataError(f"{kind}: {printable(identifier)} is not in this run; search for its name")
        self.kind, self.ids, self.weights = kind, list(ids), {}
        self.own_words, self._before = self._own_words(), self._ranking(_KNOWN_RANKS)

    def change(self, word: str, weight: int) -> None:
        """Ask for more (positive) or less (negative) of a word, or take the change back (0).

        Raises:
            DataError: If no user and no item has the word.
        """
        word = word.strip().lower()
        if weight and word not in self.explorer.known_words:
            raise DataError(f"word: nobody and nothing has the word {printable(word)!r}; choose one that is suggested")
        self.weights.pop(word, None)
        if weight:
            self.weights[word] = max(-MOST_WEIGHT, min(MOST_WEIGHT, weight))

    def words(self) -> list[str]:
        """Words of the subject with changes: those wanted first, without those removed."""
        wanted = [word for word, weight in self.weights.items() if weight > 0]
        return [*wanted, *(word for word in self.own_words if word not in self.weights)]

    def neighbours(self) -> list[Entity]:
        """Users or items that are alike."""
        recommender = self.explorer.recommender
        if self.kind == "new":
            return []
        if self.kind == "item":
            count = min(_NEIGHBOURS, len(recommender.entities.item_ids) - 1)
            return self.explorer.entities("item", _found(recommender.similar_items(self.ids, count).ids[0]))
        count = min(_NEIGHBOURS, len(recommender.entities.user_ids) - 1)
        return self.explorer.entities("user", _found(recommender.similar_users(self.ids, count).ids[0]))

    def recommend(self, k: int = 20) -> list[Row]:
        """Best items of the subject, as changed words have it; for an item, those of who has only this item."""
        now = self._ranking(k) if self.weights else self._before[:k]
        places = {identifier: place for place, identifier in enumerate(self._before, start=1)}
        own = set(self.words())
        return [
            Row(item, rank, places.get(item.id), [word for word in item.words if word in own])
            for rank, item in enumerate(self.explorer.entities("item", now), start=1)
        ]

    def _own_words(self) -> list[str]:
        if not self.explorer.has_words or not self.ids:
            return []
        if self.kind == "new":
            try:
                (found,) = self.explorer.recommender.describe_history([self.ids])
            except CheckpointError:
                return []  # the run keeps no mapper
            return [printable(word) for word in found.words]
        return self.explorer.entities(self.kind, self.ids)[0].words

    def _ranking(self, k: int) -> list[str]:
        """Ids of the best items as words have them, best first; none for a new user without items and words."""
        if not self.ids and not self.weights:
            return []
        who = self.ids[0] if self.kind == "user" else self.ids or None
        more, less = ([word for word, weight in self.weights.items() for _ in range(sign * weight)] for sign in (1, -1))
        recommender = self.explorer.recommender
        k = min(k, len(recommender.entities.item_ids))
        ids: list[str] = recommender.steer(who, more, less, self.strength, k).ids.tolist()
        return ids


def _found(ids: np.ndarray) -> list[str]:
    return [identifier for identifier in ids.tolist() if identifier is not None]
