"""What a `Recommender` answers with, and how rows and original ids are exchanged."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
from torch import Tensor

from face_lightning.errors import ConfigurationError, DataError
from face_lightning.recommending.catalogue import RankedRows
from face_lightning.runs.inference import Entities

Ids = Sequence[str | int] | np.ndarray
Unknown = Literal["error", "skip"]
Side = Literal["users", "items"]


class TopK(NamedTuple):
    """Best items of each user, or entities similar to each entity, best first.

    Attributes:
        query_ids: Original ids of those asked about, `(B,)`.
        ids: Original ids of what was found, `(B, K)`; None behind the last where there are fewer than K.
        scores: Inner products, or cosines of similar entities, `(B, K)`; -inf behind the last.
    """

    query_ids: np.ndarray
    ids: np.ndarray
    scores: np.ndarray


class Steered(NamedTuple):
    """Best items of a user after an edit by words, best first.

    Attributes:
        ids: Original ids of items, `(K,)`.
        scores: Their agreement with the edited user, `(K,)`.
        more: Words of the vocabulary that were used for each word or phrase of which more was wanted.
        less: Likewise of which less was wanted.
        embedding: The edited user in the space of embeddings, `(D,)`; scores also count what texts of items mean.
    """

    ids: np.ndarray
    scores: np.ndarray
    more: dict[str, list[str]]
    less: dict[str, list[str]]
    embedding: Tensor


class ColdStart(NamedTuple):
    """A new item of which only a text is known.

    Attributes:
        words: Words of the vocabulary that say what the text says.
        embedding: Predicted embedding `(D,)`.
        user_ids: Original ids of the users that the item suits best, best first, `(K,)`.
        user_scores: Inner products of their embeddings with the item's, `(K,)`.
        item_ids: Original ids of the items whose embeddings have the largest cosine with the item's, `(K,)`.
        item_scores: These cosines, `(K,)`.
    """

    words: list[str]
    embedding: Tensor
    user_ids: np.ndarray
    user_scores: np.ndarray
    item_ids: np.ndarray
    item_scores: np.ndarray


class Description(NamedTuple):
    """Words of a user or an item; those first that agree best with all of them."""

    kind: str
    id: str
    label: str
    words: list[str]


def rows_of(kind: str, known: Mapping[str, int], ids: Ids | str, unknown: Unknown) -> np.ndarray:
    """Rows of original ids `(B,)`.

    Args:
        kind: "users" or "items", for messages.
        known: Row of each original id.
        ids: Original ids.
        unknown: Whether ids that are not known are an "error", or to "skip".

    Raises:
        DataError: If ids are unknown.
        ConfigurationError: If `unknown` is neither.
    """
    if unknown not in ("error", "skip"):
        raise ConfigurationError(f"unknown: expected error or skip, got {unknown!r}; error is usual")
    texts = [ids] if isinstance(ids, str) else [str(identifier) for identifier in ids]
    missing = [text for text in texts if text not in known]
    if missing and unknown == "error":
        listed = ", ".join(missing[:5]) + (f" and {len(missing) - 5} more" if len(missing) > 5 else "")
        raise DataError(
            f"{kind}: {listed} not among the {kind} of this run (original ids are expected, and the k-core drops rare "
            f"{kind}); correct the ids, or skip unknown ones"
        )
    return np.array([known[text] for text in texts if text in known], dtype=np.int64)


def collect(tiles: Iterator[RankedRows], query_ids: np.ndarray, ids: np.ndarray) -> TopK:
    """All tiles of a ranking with original ids.

    Args:
        tiles: The ranking.
        query_ids: Original ids of all possible queries, as strings.
        ids: Original ids of all rows that may be found, as strings.
    """
    parts = list(tiles)
    if not parts:
        return TopK(np.empty(0, object), np.empty((0, 0), object), np.empty((0, 0), np.float32))
    queries, rows, scores, counts = parts[0] if len(parts) == 1 else map(np.concatenate, zip(*parts, strict=True))
    found = ids[rows]
    if counts.min() < rows.shape[1]:
        found[np.arange(rows.shape[1]) >= counts[:, None]] = None
    return TopK(query_ids[queries], found, scores)


def extend_words(table: Any, entities: Entities, rows: Tensor, words: Sequence[Sequence[str]]) -> Any:  # noqa: ANN401 Arrow tables
    """The table of all entities' words with those of new items at `rows` `(N,)` of the items."""
    num_users, num_items = len(entities.user_ids), len(entities.item_ids)
    return pa.table(
        {
            "kind": ["user"] * num_users + ["item"] * num_items,
            "id": pa.chunked_array([entities.user_ids, entities.item_ids]),
            "label": pa.chunked_array([entities.user_labels, entities.item_labels]),
            "words": extend_rows(table["words"].combine_chunks(), num_users + rows, words),
        }
    ).combine_chunks()


def extend_rows(column: Any, rows: Tensor, values: Sequence[Any]) -> Any:  # noqa: ANN401 Arrow arrays
    """A column with new values at `rows` `(N,)`, which replace others or come behind the last, without gaps."""
    places = np.arange(max([len(column), *(rows + 1).tolist()]))
    places[rows.numpy()] = len(column) + np.arange(len(rows))
    return pa.concat_arrays([column, pa.array(values, column.type)]).take(pa.array(places))
