"""Descriptors of all entities as a table that any tool can read."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from face_lightning.stages.base import Stage
from face_lightning.stages.words import WordSpace


def has_words(stage: Stage) -> bool:
    """Whether a stage gives words to entities: it holds a mapper and a word space."""
    return hasattr(stage, "mapper") and hasattr(stage, "words")


def descriptors_of(stage: Any) -> Tensor:  # noqa: ANN401 any stage with words
    """Descriptors of all entities, users first, `(U + I, S)`, from a stage in evaluation mode."""
    stage.eval()
    with torch.no_grad():
        embeddings = stage.backbone(stage.graph)
        descriptors: Tensor = stage.mapper.describe(torch.cat(embeddings))
    return descriptors


def write_descriptors(words: WordSpace, descriptors: Tensor, user_ids: Any, item_ids: Any, path: Path) -> None:  # noqa: ANN401
    """Write `kind`, original `id`, `label`, `words` and `text` of every entity as Parquet.

    Args:
        words: Word space that has read the entities' texts.
        descriptors: `(U + I, S)`.
        user_ids: Original ids of users `(U,)`, strings.
        item_ids: Original ids of items `(I,)`, strings.
        path: File to write.
    """
    vocabulary = words.codebook.words
    table = pa.table(
        {
            "kind": pa.array(["user"] * len(user_ids) + ["item"] * len(item_ids)).dictionary_encode(),
            "id": pa.array([*user_ids.tolist(), *item_ids.tolist()], pa.string()),
            "label": pa.array(words.labels, pa.string()),
            "words": pa.array([[vocabulary[token] for token in row] for row in descriptors.tolist()]),
            "text": pa.array(words.texts, pa.string()),
        }
    )
    temporary = path.with_name(path.name + ".tmp")
    pq.write_table(table, temporary)
    temporary.replace(path)
