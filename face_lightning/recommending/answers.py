"""Result types of a `Recommender`, and conversion between original ids and rows."""

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
    """Top-k results of each query, best first: items for users, or similar entities for entities.

    Attributes:
        query_ids: Original ids of the queries, `(B,)`.
        ids: Original ids of the results, `(B, K)`; padded with None where a query has fewer than K results.
        scores: Inner products, or cosine similarities for similar entities, `(B, K)`; padded with -inf.
    """

    query_ids: np.ndarray
    ids: np.ndarray
    scores: np.ndarray


class Steered(NamedTuple):
    """Top-k items of a user after steering by words, best first.

    Attributes:
        ids: Original ids of the items, `(K,)`.
        scores: Scores of the items after steering, `(K,)`.
        more: For each word or phrase in `more`, the vocabulary words that represent it.
        less: For each word or phrase in `less`, the vocabulary words that represent it.
        embedding: Embedding of the steered user, `(D,)`. Its inner products are not `scores`, which also depend on
            the meanings of the items' texts.
    """

    ids: np.ndarray
    scores: np.ndarray
    more: dict[str, list[str]]
    less: dict[str, list[str]]
    embedding: Tensor


class ColdStart(NamedTuple):
    """Predictions for a new item of which only a text is known.

    Attributes:
        words: Vocabulary words that describe the text.
        embedding: Predicted embedding `(D,)`.
        user_ids: Original ids of the users with the highest scores, best first, `(K,)`.
        user_scores: Inner products of the users' embeddings with the new item's, `(K,)`.
        item_ids: Original ids of the most similar items, best first, `(K,)`.
        item_scores: Cosine similarities of the items' embeddings with the new item's, `(K,)`.
    """

    words: list[str]
    embedding: Tensor
    user_ids: np.ndarray
    user_scores: np.ndarray
    item_ids: np.ndarray
    item_scores: np.ndarray


class Description(NamedTuple):
    """Words of a user or an item, those closest to their common meaning first."""

    kind: str
    id: str
    label: str
    words: list[str]


def rows_of(kind: str, known: Mapping[str, int], ids: Ids | str, unknown: Unknown) -> np.ndarray:
    """Look up the rows `(B,)` of original ids.

    Args:
        kind: "users" or "items", for error messages.
        known: Row of each original id.
        ids: Original ids.
        unknown: "error" to raise on unknown ids, "skip" to leave them out.

    Raises:
        DataError: If ids are unknown and `unknown` is "error".
        ConfigurationError: If `unknown` is neither "error" nor "skip".
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
    """Concatenate the tiles of a ranking, and replace rows by original ids.

    Args:
        tiles: Tiles of the ranking.
        query_ids: Original ids that `RankedRows.queries` index, as strings.
        ids: Original ids that `RankedRows.rows` index, as strings.
    """
    parts = list(tiles)
    if not parts:
        return TopK(np.empty(0, object), np.empty((0, 0), object), np.empty((0, 0), np.float32))
    queries, rows, scores, counts = parts[0] if len(parts) == 1 else map(np.concatenate, zip(*parts, strict=True))
    top_ids = ids[rows]
    if counts.min() < rows.shape[1]:
        top_ids[np.arange(rows.shape[1]) >= counts[:, None]] = None
    return TopK(query_ids[queries], top_ids, scores)


def extend_words(table: Any, entities: Entities, rows: Tensor, words: Sequence[Sequence[str]]) -> Any:  # noqa: ANN401 Arrow tables
    """Add the words of new items, whose item rows are `rows` `(N,)`, to the table of all entities' words."""
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
    """Replace the values of a column at `rows` `(N,)`; rows past its end extend it, and must leave no gap."""
    indices = np.arange(max([len(column), *(rows + 1).tolist()]))
    indices[rows.numpy()] = len(column) + np.arange(len(rows))
    return pa.concat_arrays([column, pa.array(values, column.type)]).take(pa.array(indices))
