"""What is known of users and items in words, and the data set that joins words with interactions."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from face_lightning.data.interactions import Interactions
from face_lightning.errors import DataError

DOMAINS = ("movie", "game", "book", "restaurant", "item")


@dataclass(frozen=True, eq=False)
class Facts:
    """What texts of users and items are made of.

    Attributes:
        users: Fields of every user `(U,)`, from training items alone.
        items: Fields of every item `(I,)`.
        typical_items: Numbers of the training items that are most typical of each user `(U,)`, best first.
    """

    users: tuple[Mapping[str, object], ...]
    items: tuple[Mapping[str, object], ...]
    typical_items: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, eq=False)
class Profiles:
    """Texts, names and, where a file gives them, text vectors of all users and items.

    Attributes:
        user_texts: One summary per user `(U,)`; None where nothing is known.
        item_texts: One summary per item `(I,)`; None where nothing is known.
        user_labels: What a person calls each user `(U,)`.
        item_labels: What a person calls each item `(I,)`, such as its title.
        domain: What the items are: "movie", "game", "book", "restaurant" or "item".
        user_vectors: Text vectors that a file brought `(U, E)`, float32, or None.
        item_vectors: Text vectors that a file brought `(I, E)`, float32, or None.
        facts: What other summaries can be written from, or None.

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
            raise DataError(f"domain must be one of {', '.join(DOMAINS)}, but is {self.domain!r}; choose one")
        for argument in ("user_vectors", "item_vectors"):
            _check_vectors(argument, getattr(self, argument))
        if self.user_vectors is not None and self.item_vectors is not None:
            widths = self.user_vectors.shape[1], self.item_vectors.shape[1]
            if widths[0] != widths[1]:
                raise DataError(
                    f"user_vectors and item_vectors must have one width, but came {widths[0]} and "
                    f"{widths[1]}; compute both with the same text encoder"
                )

    def check(self, interactions: Interactions, source: str | None = None) -> None:
        """Make sure that there is one row for every user and item.

        Args:
            interactions: What the texts are about.
            source: Where the texts come from, such as a folder, for the error.

        Raises:
            DataError: If the number of texts, labels or vectors differs from the entities.
        """
        origin = f"{source}: " if source else ""
        counts = {"user": interactions.num_users, "item": interactions.num_items}
        for entity, expected in counts.items():
            for kind in ("texts", "labels", "vectors"):
                rows = getattr(self, f"{entity}_{kind}")
                if rows is not None and len(rows) != expected:
                    noun = "text vectors" if kind == "vectors" else kind
                    raise DataError(
                        f"{origin}{entity}_{kind} must hold {expected} {noun}, one per {entity} of "
                        f"{interactions.name}, but holds {len(rows)}; give those of this data set or "
                        "leave them out"
                    )


@dataclass(frozen=True, eq=False)
class Dataset:
    """Interactions, and what is known of their users and items in words (None where nothing is)."""

    interactions: Interactions
    profiles: Profiles | None = None


def _check_vectors(argument: str, vectors: np.ndarray | None) -> None:
    """Raise unless the vectors are a float32 matrix of finite numbers."""
    if vectors is None:
        return
    if vectors.ndim != 2 or vectors.dtype != np.float32:
        raise DataError(
            f"{argument} must be a float32 matrix (rows, width), but is {vectors.dtype} of shape "
            f"{vectors.shape}; convert it"
        )
    finite = np.isfinite(vectors).all(axis=1)
    if not finite.all():
        raise DataError(
            f"{argument} must be finite numbers, but {int((~finite).sum())} rows hold NaN or infinity, "
            f"the first is row {int(np.argmin(finite))}; encode these texts again"
        )
