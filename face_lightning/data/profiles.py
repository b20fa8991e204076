"""Texts and metadata of users and items, and data sets that combine them with interactions."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from face_lightning.data.interactions import Interactions
from face_lightning.errors import DataError

DOMAINS = ("movie", "game", "book", "restaurant", "item")


@dataclass(frozen=True, eq=False)
class Facts:
    """Metadata from which texts of users and items are written.

    Attributes:
        users: Fields of every user `(U,)`, derived only from training items.
        items: Fields of every item `(I,)`.
        typical_items: Column numbers of the most typical training items of each user `(U,)`, best first.
    """

    users: tuple[Mapping[str, object], ...]
    items: tuple[Mapping[str, object], ...]
    typical_items: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, eq=False)
class Profiles:
    """Texts, labels and optional text vectors of all users and items.

    Attributes:
        user_texts: One summary per user `(U,)`; None if there is none.
        item_texts: One summary per item `(I,)`; None if there is none.
        user_labels: Display name of each user `(U,)`.
        item_labels: Display name of each item `(I,)`, such as its title.
        domain: Kind of items: "movie", "game", "book", "restaurant" or "item".
        user_vectors: Precomputed text vectors `(U, E)`, float32, or None.
        item_vectors: Precomputed text vectors `(I, E)`, float32, or None.
        facts: Metadata for other summaries, or None.

    Raises:
        DataError: If the domain is unknown, or vectors are not float32 matrices of finite numbers.
    """

    user_texts: tuple[str | None, ...]
    item_texts: tuple[str | None, ...]
    user_labels: tuple[str, ...]
    item_labels: tuple[str, ...]
    domain: str = "item"
    user_vectors: np.ndarray | None = None
    item_vectors: np.ndarray | None = None
    facts: Facts | None = None

    def __post_init__(self) -> None:
        if self.domain not in DOMAINS:
            raise DataError(f"domain: expected one of {', '.join(DOMAINS)}, got {self.domain!r}; choose one")
        for argument in ("user_vectors", "item_vectors"):
            _check_vectors(argument, getattr(self, argument))
        if self.user_vectors is not None and self.item_vectors is not None:
            widths = self.user_vectors.shape[1], self.item_vectors.shape[1]
            if widths[0] != widths[1]:
                raise DataError(
                    f"user_vectors, item_vectors: expected the same width, got {widths[0]} and "
                    f"{widths[1]}; compute both with the same text encoder"
                )

    def check(self, interactions: Interactions, source: str | None = None) -> None:
        """Check that there is one row for every user and item.

        Args:
            interactions: Interactions of the same users and items.
            source: Source of the texts, such as a folder, for the error.

        Raises:
            DataError: If the number of texts, labels or vectors differs from the number of entities.
        """
        origin = f"{source}: " if source else ""
        counts = {"user": interactions.num_users, "item": interactions.num_items}
        for entity, expected in counts.items():
            for kind in ("texts", "labels", "vectors"):
                rows = getattr(self, f"{entity}_{kind}")
                if rows is not None and len(rows) != expected:
                    noun = "text vectors" if kind == "vectors" else kind
                    raise DataError(
                        f"{origin}{entity}_{kind}: expected {expected} {noun}, one per {entity} of "
                        f"{interactions.name}, got {len(rows)}; give those of this data set or "
                        "omit them"
                    )


class NewItems(NamedTuple):
    """Items without interactions, which take part in neither training nor metrics.

    Attributes:
        texts: Text of each item by its original id.
        labels: Display name of each item, such as its title.
    """

    texts: Mapping[str, str]
    labels: Mapping[str, str]


@dataclass(frozen=True, eq=False)
class Dataset:
    """Interactions, and the profiles of their users and items, if there are any.

    Attributes:
        interactions: The splits.
        profiles: Texts of the users and items in them.
        new_items: Additional items of the catalogue, which a finished run recommends by their texts.
    """

    interactions: Interactions
    profiles: Profiles | None = None
    new_items: NewItems | None = None


def _check_vectors(argument: str, vectors: np.ndarray | None) -> None:
    """Check that vectors are a float32 matrix of finite numbers."""
    if vectors is None:
        return
    if vectors.ndim != 2 or vectors.dtype != np.float32:
        raise DataError(
            f"{argument}: expected a float32 matrix (rows, width), got {vectors.dtype} of shape "
            f"{vectors.shape}; convert it"
        )
    finite = np.isfinite(vectors).all(axis=1)
    if not finite.all():
        raise DataError(
            f"{argument}: expected finite numbers, got {int((~finite).sum())} rows with NaN or infinity, "
            f"the first is row {int(np.argmin(finite))}; encode these texts again"
        )
