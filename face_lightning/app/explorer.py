"""State of the page that all visitors share: a run, with search by name, texts and words."""

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
_MAX_TEXT_LENGTH = 600


class Entity(NamedTuple):
    """A user or an item, as the page shows it.

    Attributes:
        kind: "item" or "user".
        id: Original id.
        label: Name in one line.
        words: Words of the entity; empty if the run has no words.
    """

    kind: Kind
    id: str
    label: str
    words: list[str]


class Explorer:
    """A finished run, as the page reads it.

    Args:
        recommender: Recommender of the run.
        title: Title of the page.
    """

    def __init__(self, recommender: Recommender, title: str) -> None:
        self.recommender, self.title = recommender, printable(title)
        self._map_lock = threading.Lock()
        self._labels: dict[Kind, list[str]] = {
            "item": recommender.entities.item_labels.to_pylist(),
            "user": recommender.entities.user_labels.to_pylist(),
        }
        self._ids: dict[Kind, list[str]] = {
            "item": recommender.entities.item_ids.to_pylist(),
            "user": recommender.entities.user_ids.to_pylist(),
        }
        self._search_keys = {
            kind: [_search_key(f"{label} {one}") for label, one in zip(labels, self._ids[kind], strict=True)]
            for kind, labels in self._labels.items()
        }

    @classmethod
    def load(cls, run_dir: Path, device: str = "cpu") -> "Explorer":
        """Load a finished run, and warm it up.

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
        """Whether the run has words of users and items."""
        return self.recommender.has_words

    @cached_property
    def can_steer(self) -> bool:
        """Whether recommendations can be steered by words; the first call loads the meanings of words."""
        try:
            return bool(self.vocabulary) and len(self.recommender.steer(None, self.vocabulary[:1], k=1).ids) > 0
        except FaceError:
            return False

    def search(self, kind: Kind, query: str, limit: int = 8) -> list[Entity]:
        """Find users or items whose id is `query`, whose name starts with it, or contains it, in this order."""
        key = _search_key(query.strip())
        if not key:
            return []
        exact = self._rows(kind).get(query.strip())
        prefix_matches: list[int] = [] if exact is None else [exact]
        other_matches: list[int] = []
        for row, text in enumerate(self._search_keys[kind]):
            if key in text and row != exact:
                (prefix_matches if text.startswith(key) else other_matches).append(row)
                if len(prefix_matches) >= limit:
                    break
        return self.entities(kind, [self._ids[kind][row] for row in [*prefix_matches, *other_matches][:limit]])

    def entities(self, kind: Kind, ids: list[str]) -> list[Entity]:
        """Look up users or items by their original ids.

        Raises:
            DataError: If an id is unknown.
        """
        side: Side = "items" if kind == "item" else "users"
        words: list[list[str]] = [[] for _ in ids]
        if self.has_words:
            descriptions = self.recommender.describe(**{side: ids})
            words = [[printable(word) for word in one.words] for one in descriptions]
        rows = self._rows(kind)
        return [
            Entity(kind, identifier, printable(self._labels[kind][rows[identifier]]), entity_words)
            for identifier, entity_words in zip(ids, words, strict=True)
        ]

    def text(self, kind: Kind, identifier: str) -> str:
        """Text of a user or an item in one line, shortened if it is long; empty if there is none."""
        if not self.has_words:
            return ""
        text = printable(self.recommender.text_of("items" if kind == "item" else "users", identifier) or "")
        return text if len(text) <= _MAX_TEXT_LENGTH else f"{text[: _MAX_TEXT_LENGTH - 1]}…"

    def suggest(self, prefix: str, limit: int = 8) -> list[str]:
        """Words in use that start with a prefix, the most frequent first."""
        prefix = prefix.strip().lower()
        if not prefix:
            return []
        matches = []
        for word in self.vocabulary:
            if word.startswith(prefix):
                matches.append(word)
                if len(matches) == limit:
                    break
        return matches

    @cached_property
    def vocabulary(self) -> list[str]:
        """Words of items, the most frequent first."""
        if self._item_words is None:
            return []
        counts = pc.value_counts(pc.list_flatten(self._item_words))
        order = np.argsort(-counts.field("counts").to_numpy(), kind="stable")
        words: list[str] = counts.field("values").take(pa.array(order)).to_pylist()
        return words

    @cached_property
    def known_words(self) -> frozenset[str]:
        """Words of all users and items, by which recommendations can be steered."""
        words = self.recommender.words_of("users")
        user_words = [] if words is None else pc.unique(pc.list_flatten(words)).to_pylist()
        return frozenset(self.vocabulary).union(user_words)

    @cached_property
    def map(self) -> EntityMap:
        """Two-dimensional map of items and words."""
        popularity = np.bincount(self.recommender.seen.training()[1], minlength=len(self._ids["item"]))
        return draw_map(self.recommender.embeddings().items, popularity, self._item_words, self.vocabulary)

    def ids_of(self, rows: np.ndarray) -> list[str]:
        """Original ids of items by row."""
        return [self._ids["item"][row] for row in rows.tolist()]

    def labels_of(self, rows: np.ndarray) -> list[str]:
        """Labels of items by row."""
        return [printable(self._labels["item"][row]) for row in rows.tolist()]

    def warm_up_map(self) -> None:
        """Compute the map, once for all visitors."""
        with self._map_lock:
            _ = self.map

    def warm_up(self) -> None:
        """Load what the first visitor would have to wait for."""
        if self.has_words:
            _ = self.known_words, self.can_steer

    def _rows(self, kind: Kind) -> Mapping[str, int]:
        entities = self.recommender.entities
        return entities.item_rows if kind == "item" else entities.user_rows

    @cached_property
    def _item_words(self) -> Any:  # noqa: ANN401 an Arrow array of lists
        words = self.recommender.words_of("items")
        return words.combine_chunks() if isinstance(words, pa.ChunkedArray) else words


def _search_key(text: str) -> str:
    """Normalise a text for search: without case and accents."""
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    return "".join(letter for letter in decomposed if not unicodedata.combining(letter))
