"""What all visitors of the page share: a run, searched by title, with texts and words."""

import threading
import unicodedata
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from face_lightning.app.entity_map import EntityMap, draw_map
from face_lightning.errors import FaceError
from face_lightning.plain_text import printable
from face_lightning.recommending.recommender import Recommender, Side
from face_lightning.runs.results import read_result

Kind = Literal["item", "user"]
_LONGEST_TEXT = 600


class Entity(NamedTuple):
    """A user or an item, as the page shows it.

    Attributes:
        kind: "item" or "user".
        id: Original id.
        label: Its name in one line.
        words: Its words; none for a run without.
    """

    kind: Kind
    id: str
    label: str
    words: list[str]


class Explorer:
    """A finished run behind the page.

    Args:
        recommender: The run's.
        title: What the page calls the run.
    """

    def __init__(self, recommender: Recommender, title: str) -> None:
        self.recommender, self.title = recommender, printable(title)
        self._drawing = threading.Lock()
        self._labels: dict[Kind, list[str]] = {
            "item": recommender.entities.item_labels.to_pylist(),
            "user": recommender.entities.user_labels.to_pylist(),
        }
        self._ids: dict[Kind, list[str]] = {
            "item": recommender.entities.item_ids.to_pylist(),
            "user": recommender.entities.user_ids.to_pylist(),
        }
        self._keys = {
            kind: [_key(f"{label} {one}") for label, one in zip(labels, self._ids[kind], strict=True)]
            for kind, labels in self._labels.items()
        }

    @classmethod
    def load(cls, run_dir: Path, device: str = "cpu") -> "Explorer":
        """Read a finished run.

        Raises:
            CheckpointError: If the run is not finished.
            DataError: If a file is damaged.
        """
        recommender = Recommender.load(run_dir, device)
        recommender.warm_up()
        result = read_result(run_dir)
        return cls(recommender, f"{result['dataset']}: {run_dir.name}")

    @property
    def has_words(self) -> bool:
        """Whether the run gives words to users and items."""
        return self.recommender.has_words

    @cached_property
    def can_steer(self) -> bool:
        """Whether the list can follow words; the first call loads what they mean."""
        try:
            return bool(self.vocabulary) and len(self.recommender.steer(None, self.vocabulary[:1], k=1).ids) > 0
        except FaceError:
            return False

    def search(self, kind: Kind, query: str, limit: int = 8) -> list[Entity]:
        """Users or items whose id is `query`, whose name begins with it, or holds it, in this order."""
        key = _key(query.strip())
        if not key:
            return []
        exact = self._rows(kind).get(query.strip())
        begins: list[int] = [] if exact is None else [exact]
        holds: list[int] = []
        for row, text in enumerate(self._keys[kind]):
            if key in text and row != exact:
                (begins if text.startswith(key) else holds).append(row)
                if len(begins) >= limit:
                    break
        return self.entities(kind, [self._ids[kind][row] for row in [*begins, *holds][:limit]])

    def entities(self, kind: Kind, ids: list[str]) -> list[Entity]:
        """Users or items by their original ids, with their words.

        Raises:
            DataError: If an id is unknown.
        """
        side: Side = "items" if kind == "item" else "users"
        words: list[list[str]] = [[] for _ in ids]
        if self.has_words:
            described = self.recommender.describe(**{side: ids})
            words = [[printable(word) for word in one.words] for one in described]
        rows = self._rows(kind)
        return [
            Entity(kind, identifier, printable(self._labels[kind][rows[identifier]]), own)
            for identifier, own in zip(ids, words, strict=True)
        ]

    def text(self, kind: Kind, identifier: str) -> str:
        """Text of a user or an item in one line; empty without one."""
        if not self.has_words:
            return ""
        text = printable(self.recommender.text_of("items" if kind == "item" else "users", identifier) or "")
        return text if len(text) <= _LONGEST_TEXT else f"{text[: _LONGEST_TEXT - 1]}…"

    def suggest(self, beginning: str, limit: int = 8) -> list[str]:
        """Words in use that begin like this, the most used first."""
        begin = beginning.strip().lower()
        if not begin:
            return []
        found = []
        for word in self.vocabulary:
            if word.startswith(begin):
                found.append(word)
                if len(found) == limit:
                    break
        return found

    @cached_property
    def vocabulary(self) -> list[str]:
        """Words that items have, the most used first."""
        if self._item_words is None:
            return []
        counted = pc.value_counts(pc.list_flatten(self._item_words))
        order = np.argsort(-counted.field("counts").to_numpy(), kind="stable")
        found: list[str] = counted.field("values").take(pa.array(order)).to_pylist()
        return found

    @cached_property
    def known_words(self) -> frozenset[str]:
        """Words that may be asked for: those of all users and items."""
        words = self.recommender.words_of("users")
        of_users = [] if words is None else pc.unique(pc.list_flatten(words)).to_pylist()
        return frozenset(self.vocabulary).union(of_users)

    @cached_property
    def map(self) -> EntityMap:
        """Items and words in the plane."""
        popularity = np.bincount(self.recommender.seen.training()[1], minlength=len(self._ids["item"]))
        return draw_map(self.recommender.embeddings().items, popularity, self._item_words, self.vocabulary)

    def ids_of(self, rows: np.ndarray) -> list[str]:
        """Original ids of items by their rows in the embeddings."""
        return [self._ids["item"][row] for row in rows.tolist()]

    def labels_of(self, rows: np.ndarray) -> list[str]:
        """Names of items by their rows in the embeddings."""
        return [printable(self._labels["item"][row]) for row in rows.tolist()]

    def warm_up_map(self) -> None:
        """Draw the map, once for all visitors."""
        with self._drawing:
            _ = self.map

    def warm_up(self) -> None:
        """Read and compute what the first visitor would wait for."""
        if self.has_words:
            _ = self.known_words, self.can_steer

    def _rows(self, kind: Kind) -> Mapping[str, int]:
        entities = self.recommender.entities
        return entities.item_rows if kind == "item" else entities.user_rows

    @cached_property
    def _item_words(self) -> Any:  # noqa: ANN401 an Arrow array of lists
        words = self.recommender.words_of("items")
        return words.combine_chunks() if isinstance(words, pa.ChunkedArray) else words


def _key(text: str) -> str:
    """Text as it is compared in a search: without case and accents."""
    split = unicodedata.normalize("NFKD", text.casefold())
    return "".join(letter for letter in split if not unicodedata.combining(letter))
