"""Items without interactions that a run keeps, with the words and embeddings that follow from their texts."""

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
    """Items without interactions.

    Attributes:
        ids: Original ids of N items.
        labels: Their names.
        texts: Their texts.
        words: Words of the vocabulary that say what each text says.
        embeddings: Embeddings predicted from the texts, `(N, D)`.
        meanings: What the texts mean, centered unit vectors `(N, E)`.
    """

    ids: Sequence[str]
    labels: Sequence[str]
    texts: Sequence[str]
    words: Sequence[Sequence[str]]
    embeddings: Tensor
    meanings: Tensor


def fit_embeddings(items: Tensor, meanings: Tensor, seen: SeenItems) -> KernelRidge:
    """Kernel ridge regression from meanings of texts to embeddings, fitted on items with training interactions.

    Args:
        items: Embeddings of items `(I, D)`.
        meanings: What their texts mean `(I, E)`.
        seen: Interactions.
    """
    trained = np.bincount(seen.training()[1], minlength=len(items)) > 0
    known = torch.from_numpy(np.flatnonzero(trained)).to(items.device)
    return KernelRidge.fit(meanings.to(items)[known], items[known], ridge=_RIDGE)


def infer_items(
    texts: Mapping[str, str], labels: Mapping[str, str], meanings: Meanings, regression: KernelRidge, num_words: int
) -> InferredItems:
    """Words and embeddings of new items.

    Args:
        texts: Text of each item by its original id.
        labels: Names of items; their ids where left out.
        meanings: Those of the run.
        regression: What `fit_embeddings` gave.
        num_words: Words an item.

    Raises:
        DataError: If a text is empty, or no text encoder can be loaded.
    """
    of_texts = meanings.of_texts(list(texts.values()))
    words = meanings.words_of(of_texts, num_words)
    names = [labels.get(identifier, identifier) for identifier in texts]
    return InferredItems(list(texts), names, list(texts.values()), words, regression.predict(of_texts), of_texts)


def keep_items(run_dir: Path, texts: Mapping[str, str], labels: Mapping[str, str], encoder: SentenceEncoder) -> None:
    """Write words and embeddings of new items into the folder of a run that has its embeddings and descriptors.

    Args:
        run_dir: Folder of the run.
        texts: Text of each item by its original id.
        labels: Their names.
        encoder: The run's text encoder.
    """
    (_, items), fingerprint = read_embeddings(run_dir)
    meanings = read_meanings(run_dir, encoder)
    first = pq.ParquetFile(run_dir / "descriptors.parquet").iter_batches(1, columns=["words"])
    regression = fit_embeddings(items, meanings.item_vectors, read_interactions(run_dir)[0])
    found = infer_items(texts, labels, meanings, regression, len(next(first)["words"][0]))
    columns = {
        "kind": pa.array(["item"] * len(found.ids)).dictionary_encode(),
        "id": pa.array(found.ids, pa.string()),
        "label": pa.array(found.labels, pa.string()),
        "words": pa.array(found.words, pa.list_(pa.string())),
        "text": pa.array(found.texts, pa.string()),
        "embedding": _as_lists(found.embeddings),
        "meaning": _as_lists(found.meanings),
    }
    table = pa.table(columns).replace_schema_metadata({"fingerprint": fingerprint})
    with atomic_path(run_dir / NEW_ITEMS) as temporary:
        pq.write_table(table, temporary)


def read_items(run_dir: Path, fingerprint: str) -> InferredItems | None:
    """Items without interactions that a run keeps; None for a run without.

    Args:
        run_dir: Folder of the run.
        fingerprint: Of the run's data.

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
