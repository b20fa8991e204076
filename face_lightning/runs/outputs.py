"""Output of descriptors and predictions as Parquet tables."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from scipy.sparse import csr_array
from torch import Tensor

from face_lightning.files import atomic_path
from face_lightning.stages.base import Stage
from face_lightning.stages.describing import DescribingStage
from face_lightning.structures import Embeddings
from face_lightning.words.space import WordSpace


def has_words(stage: Stage) -> bool:
    """Whether a stage assigns words to entities."""
    return isinstance(stage, DescribingStage)


def embeddings_of(stage: Stage) -> Embeddings:
    """Final embeddings of users `(U, D)` and items `(I, D)` of the last evaluation, on the CPU; a collective operation.

    All processes must call it.
    """
    tables = (
        torch.cat([stage.tables.whole_rows(rows).cpu() for rows in table.split(2**16)])
        for table in stage.final_embeddings
    )
    return Embeddings(*tables)


def descriptors_of(stage: Any) -> Tensor:  # noqa: ANN401 any stage with words
    """Descriptors of all entities, users first, `(U + I, S)`, from a stage in evaluation mode."""
    stage.eval()
    with torch.no_grad():
        descriptors: Tensor = stage.describe(stage.backbone(stage.graph))
    return descriptors


class EntityIds(Protocol):
    """Original ids of users `(U,)` and items `(I,)` as strings, such as those of `Interactions`."""

    @property
    def user_ids(self) -> np.ndarray:
        """Original ids of users."""

    @property
    def item_ids(self) -> np.ndarray:
        """Original ids of items."""


def write_descriptors(space: WordSpace, descriptors: Tensor, ids: EntityIds, path: Path) -> None:
    """Write `kind`, original `id`, `label`, `words` (see `WordVectors.sorted_words`) and `text` of all entities.

    Args:
        space: Texts of the entities and vectors of the words.
        descriptors: `(U + I, S)`.
        ids: Original ids of users and items.
        path: Parquet file to write.
    """
    table = pa.table(
        {
            "kind": pa.array(["user"] * len(ids.user_ids) + ["item"] * len(ids.item_ids)).dictionary_encode(),
            "id": pa.array([*ids.user_ids.tolist(), *ids.item_ids.tolist()], pa.string()),
            "label": pa.array(space.texts.labels, pa.string()),
            "words": pa.array(space.word_vectors.sorted_words(descriptors)),
            "text": pa.array(space.texts.texts, pa.string()),
        }
    )
    with atomic_path(path) as temporary:
        pq.write_table(table, temporary)


def write_predictions(
    batches: Sequence[tuple[Tensor, Tensor]],
    seen: csr_array[Any],
    ids: EntityIds,
    path: Path,
) -> int:
    """Write `user_id` and `item_ids`, the top unseen items of each user, best first.

    Args:
        batches: Results of `Stage.predict_step`; users who have seen almost all items get fewer.
        seen: Seen items of users `(U, I)`.
        ids: Original ids of users and items.
        path: Parquet file to write.

    Returns:
        Number of users.
    """
    users, items = (torch.cat(parts).cpu().numpy() for parts in zip(*batches, strict=True))
    unseen = np.asarray(seen[np.repeat(users, items.shape[1]), items.reshape(-1)] == 0).reshape(items.shape)
    ends = np.concatenate([[0], unseen.sum(axis=1).cumsum()])
    flat = pa.array(ids.item_ids[items[unseen]].tolist(), pa.string())
    table = pa.table(
        {
            "user_id": pa.array(ids.user_ids[users].tolist(), pa.string()),
            "item_ids": pa.ListArray.from_arrays(pa.array(ends, pa.int32()), flat),
        }
    )
    with atomic_path(path) as temporary:
        pq.write_table(table, temporary)
    return len(users)
