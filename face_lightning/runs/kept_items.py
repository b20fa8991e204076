"""Items without interactions saved with a run, with words and embeddings inferred from their texts."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from face_lightning.errors import DataError
from face_lightning.files import atomic_path
from face_lightning.kernel_ridge import KernelRidge
from face_lightning.runs.inference import SeenItems, read_embeddings, read_interactions
from face_lightning.runs.kept_meanings import Meanings, read_meanings
from face_lightning.text.sentence_encoder import SentenceEncoder

NEW_ITEMS = "new_items.parquet"
_RIDGE = 0.1


class InferredItems(NamedTuple):
    """N items without interactions.

    Attributes:
        ids: Original ids of the items.
        labels: Labels of the items.
        texts: Texts of the items.
        words: Vocabulary words that describe each text.
        embeddings: Embeddings predicted from the texts, `(N, D)`.
        meanings: Meanings of the texts, as centered unit vectors `(N, E)`.
    """

    ids: Sequence[str]
    labels: Sequence[str]
    texts: Sequence[str]
    words: Sequence[Sequence[str]]
    embeddings: Tensor
    meanings: Tensor


def fit_embeddings(items: Tensor, meanings: Tensor, seen: SeenItems) -> KernelRidge:
    """Fit kernel ridge regression from the meanings of texts to embeddings, on items with training interactions.

    Args:
        items: Embeddings of items `(I, D)`.
        meanings: Meanings of the items' texts `(I, E)`.
        seen: Interactions of the run.
    """
    trained = np.bincount(seen.training()[1], minlength=len(items)) > 0
    known = torch.from_numpy(np.flatnonzero(trained)).to(items.device)
    return KernelRidge.fit(meanings.to(items)[known], items[known], ridge=_RIDGE)


def infer_items(
    texts: Mapping[str, str], labels: Mapping[str, str], meanings: Meanings, regression: KernelRidge, num_words: int
) -> InferredItems:
    """Infer the words and embeddings of new items from their texts.

    Args:
        texts: Text of each item by its original id.
        labels: Labels of items by original id; the id itself for items left out.
        meanings: Meanings of the run's words and items.
        regression: Result of `fit_embeddings`.
        num_words: Number of words per item.

    Raises:
        DataError: If a text is empty, or no text encoder can be loaded.
    """
    vectors = meanings.of_texts(list(texts.values()))
    words = meanings.words_of(vectors, num_words)
    names = [labels.get(identifier, identifier) for identifier in texts]
    return InferredItems(list(texts), names, list(texts.values()), words, regression.predict(vectors), vectors)


def keep_items(run_dir: Path, texts: Mapping[str, str], labels: Mapping[str, str], encoder: SentenceEncoder) -> None:
    """Infer new items and save them in the folder of a run, which must contain embeddings and descriptors.

    Args:
        run_dir: Folder of the run.
        texts: Text of each item by its original id.
        labels: Labels of items by original id.
        encoder: Text encoder of the run.
    """
    (_, items), fingerprint = read_embeddings(run_dir)
    meanings = read_meanings(run_dir, encoder)
    first = pq.ParquetFile(run_dir / "descriptors.parquet").iter_batches(1, columns=["words"])
    regression = fit_embeddings(items, meanings.item_vectors, read_interactions(run_dir)[0])
    inferred = infer_items(texts, labels, meanings, regression, len(next(first)["words"][0]))
    columns = {
        "kind": pa.array(["item"] * len(inferred.ids)).dictionary_encode(),
        "id": pa.array(inferred.ids, pa.string()),
        "label": pa.array(inferred.labels, pa.string()),
        "words": pa.array(inferred.words, pa.list_(pa.string())),
        "text": pa.array(inferred.texts, pa.string()),
        "embedding": _as_lists(inferred.embeddings),
        "meaning": _as_lists(inferred.meanings),
    }
    table = pa.table(columns).replace_schema_metadata({"fingerprint": fingerprint})
    with atomic_path(run_dir / NEW_ITEMS) as temporary:
        pq.write_table(table, temporary)


def read_items(run_dir: Path, fingerprint: str) -> InferredItems | None:
    """Read the items without interactions of a run; None if it has none.

    Args:
        run_dir: Folder of the run.
        fingerprint: Fingerprint of the run's data.

    Raises:
        DataError: If the file is damaged, or belongs to other data.
    """
    path = run_dir / NEW_ITEMS
    if not path.is_file():
        return None
    try:
        table = pq.read_table(path).combine_chunks()
        if table.schema.metadata[b"fingerprint"].decode() != fingerprint:
            raise ValueError("it belongs to other data")
        ids, labels, texts, words = (table[name].to_pylist() for name in ("id", "label", "text", "words"))
        embeddings, meanings = (_as_matrix(table[name]) for name in ("embedding", "meaning"))
    except (pa.ArrowException, KeyError, TypeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"run: {path} is damaged ({reason:.99}); run that stage again") from error
    return InferredItems(ids, labels, texts, words, embeddings, meanings)


def _as_lists(matrix: Tensor) -> pa.Array:
    flat = pa.array(matrix.float().cpu().numpy().ravel())
    return pa.FixedSizeListArray.from_arrays(flat, matrix.shape[1])


def _as_matrix(column: pa.ChunkedArray) -> Tensor:
    rows = column.combine_chunks()
    return torch.from_numpy(rows.flatten().to_numpy().reshape(len(rows), -1).copy())
