"""Files of a run for inference without the data set or a text encoder: ids, interactions and final embeddings.

`entities.parquet` and `interactions.safetensors` are written when training starts, `embeddings.safetensors` when it has
finished. Each contains the fingerprint of the data, so that files of different runs are never mixed.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from face_lightning.errors import CheckpointError, ConfigurationError, DataError
from face_lightning.files import atomic_path
from face_lightning.runs.folder import current_run
from face_lightning.structures import Embeddings

if TYPE_CHECKING:
    from scipy.sparse import csr_array  # slow to import, and not needed to rank

ENTITIES, INTERACTIONS, EMBEDDINGS = "entities.parquet", "interactions.safetensors", "embeddings.safetensors"
FILES = (ENTITIES, INTERACTIONS, EMBEDDINGS)
Seen = Literal["train", "train+val", "all"]
_NUM_SPLITS = {"train": 1, "train+val": 2, "all": 3}


@dataclass(frozen=True, eq=False)
class Entities:
    """Original ids and labels of users and items, in the order of the rows of embeddings.

    Attributes:
        user_ids: Arrow array of strings `(U,)`.
        item_ids: Arrow array of strings `(I,)`.
        user_labels: Name of each user for display, by default its id, `(U,)`.
        item_labels: Name of each item for display, such as its title, by default its id, `(I,)`.
        fingerprint: Fingerprint of the data.
    """

    user_ids: Any
    item_ids: Any
    user_labels: Any
    item_labels: Any
    fingerprint: str

    @cached_property
    def user_strings(self) -> np.ndarray:
        """Original user ids as Python strings `(U,)`."""
        return _strings(self.user_ids)

    @cached_property
    def item_strings(self) -> np.ndarray:
        """Original item ids as Python strings `(I,)`."""
        return _strings(self.item_ids)

    @cached_property
    def user_rows(self) -> Mapping[str, int]:
        """Row of each original user id."""
        return {identifier: row for row, identifier in enumerate(self.user_strings)}

    @cached_property
    def item_rows(self) -> Mapping[str, int]:
        """Row of each original item id."""
        return {identifier: row for row, identifier in enumerate(self.item_strings)}

    def with_items(self, ids: Sequence[str], labels: Mapping[str, str]) -> "Entities":
        """A copy with new items appended; ids that already exist keep their rows."""
        new = [identifier for identifier in ids if identifier not in self.item_rows]
        names = [labels.get(identifier, identifier) for identifier in new]
        return replace(
            self,
            item_ids=pa.concat_arrays([self.item_ids, pa.array(new, pa.string())]),
            item_labels=pa.concat_arrays([self.item_labels, pa.array(names, pa.string())]),
        )


def _strings(ids: Any) -> np.ndarray:  # noqa: ANN401 an Arrow array
    """Convert ids to Python strings."""
    strings: np.ndarray = ids.to_numpy(zero_copy_only=False)
    return strings


class SeenItems:
    """Items of each user with their splits, as arrays that may be memory-mapped.

    Args:
        starts: Offset of each user's items, `(U + 1,)` int64.
        items: Concatenated items of all users, ascending for each user, `(N,)`.
        splits: Split of each item: 0 for training, 1 for validation, 2 for test, `(N,)`.
    """

    def __init__(self, starts: np.ndarray, items: np.ndarray, splits: np.ndarray) -> None:
        self.starts, self.items, self.splits = starts, items, splits

    def of(self, users: np.ndarray, seen: Seen) -> tuple[np.ndarray, np.ndarray]:
        """Seen items of `users` `(B,)`, as pairs of a position in `users` and an item, in two sorted arrays `(N,)`."""
        if len(users) == 1:
            begin, end = self.starts[users[0]], self.starts[users[0] + 1]
            items = self.items[begin:end]
            if seen != "all":
                items = items[self.splits[begin:end] < _NUM_SPLITS[seen]]
            return np.zeros(len(items), np.int64), items.astype(np.int64)
        first, counts = self.starts[users], self.starts[users + 1] - self.starts[users]
        rows = np.repeat(np.arange(len(users)), counts)
        indices = np.repeat(first - np.concatenate([[0], counts.cumsum()[:-1]]), counts) + np.arange(len(rows))
        selected = self.splits[indices] < _NUM_SPLITS[seen]
        return rows[selected], self.items[indices[selected]].astype(np.int64)

    def training(self) -> tuple[np.ndarray, np.ndarray]:
        """Training items: the offset of each user's items `(U + 1,)`, and their concatenation `(N,)`."""
        selected = self.splits == 0
        offsets = np.concatenate([[0], selected.cumsum()])
        return offsets[self.starts], self.items[selected]

    def matrix(self, split: int, num_items: int) -> "csr_array[Any]":
        """Binary matrix `(U, I)` of one split."""
        from scipy.sparse import coo_array, csr_array

        users = np.repeat(np.arange(len(self.starts) - 1), np.diff(self.starts))
        selected = self.splits == split
        ones = np.ones(int(selected.sum()), np.float32)
        shape = (len(self.starts) - 1, num_items)
        return csr_array(coo_array((ones, (users[selected], self.items[selected])), shape=shape))


def check_seen(seen: str | None) -> Seen | None:
    """Validate a value of `filter_seen`.

    Raises:
        ConfigurationError: If it is neither one of `Seen` nor None.
    """
    for choice in get_args(Seen):
        if seen == choice:
            return choice  # type: ignore[no-any-return]
    if seen is None:
        return None
    raise ConfigurationError(f"filter_seen: expected {', '.join(get_args(Seen))} or None, got {seen!r}; all is usual")


def write_data(
    run_dir: Path,
    splits: "Sequence[csr_array[Any]]",
    ids: tuple[np.ndarray, np.ndarray],
    labels: tuple[Sequence[str], Sequence[str]] | None,
    fingerprint: str,
) -> None:
    """Write the ids, labels and interactions of a run's training data.

    Args:
        run_dir: Folder of the run.
        splits: Training, validation and test interactions `(U, I)`.
        ids: Original ids of users `(U,)` and items `(I,)`.
        labels: Labels of users and items; their ids if None.
        fingerprint: Fingerprint of the data.
    """
    user_ids, item_ids = ([str(identifier) for identifier in side.tolist()] for side in ids)
    user_labels, item_labels = (user_ids, item_ids) if labels is None else labels
    table = pa.table(
        {
            "kind": pa.array(["user"] * len(user_ids) + ["item"] * len(item_ids)).dictionary_encode(),
            "id": pa.array([*user_ids, *item_ids], pa.string()),
            "label": pa.array([*user_labels, *item_labels], pa.string()),
        }
    ).replace_schema_metadata({"fingerprint": fingerprint})
    with _atomic_file(run_dir / ENTITIES) as temporary:
        pq.write_table(table, temporary)
    users = np.concatenate([np.repeat(np.arange(split.shape[0]), np.diff(split.indptr)) for split in splits])
    items = np.concatenate([split.indices for split in splits])
    numbers = np.repeat(np.arange(len(splits), dtype=np.uint8), [split.nnz for split in splits])
    order = np.lexsort((items, users))
    starts = np.concatenate([[0], np.bincount(users, minlength=len(user_ids)).cumsum()]).astype(np.int64)
    tensors = {
        "starts": torch.from_numpy(starts),
        "items": torch.from_numpy(items[order].astype(np.int32)),
        "splits": torch.from_numpy(numbers[order]),
    }
    with _atomic_file(run_dir / INTERACTIONS) as temporary:
        save_file(tensors, temporary, metadata={"fingerprint": fingerprint})


def write_embeddings(run_dir: Path, embeddings: Embeddings, fingerprint: str) -> None:
    """Write the final embeddings of all users and items in float32.

    Args:
        run_dir: Folder of the run.
        embeddings: Users `(U, D)` and items `(I, D)`.
        fingerprint: Fingerprint of the data.
    """
    tensors = {name: table.detach().float().cpu().contiguous() for name, table in embeddings._asdict().items()}
    with _atomic_file(run_dir / EMBEDDINGS) as temporary:
        save_file(tensors, temporary, metadata={"fingerprint": fingerprint})


def read_entities(run_dir: Path) -> Entities:
    """Read the ids and labels of a run.

    Raises:
        CheckpointError: If the run has no such file.
        DataError: If the file is damaged.
    """
    path = _existing_file(run_dir, ENTITIES)
    with _report_damage(path):
        table = pq.read_table(path, memory_map=True)
        fingerprint = table.schema.metadata[b"fingerprint"].decode()
        num_users = pc.sum(pc.equal(table["kind"], "user")).as_py()
        sides = [table.slice(0, num_users), table.slice(num_users)]
        (user_ids, item_ids), (user_labels, item_labels) = (
            [side[name].combine_chunks() for side in sides] for name in ("id", "label")
        )
    return Entities(user_ids, item_ids, user_labels, item_labels, fingerprint)


def read_interactions(run_dir: Path) -> tuple[SeenItems, str]:
    """Memory-map the interactions of a run, and read the fingerprint of its data.

    Raises:
        CheckpointError: If the run has no such file.
        DataError: If the file is damaged.
    """
    tensors, fingerprint = _read_tensors(run_dir, INTERACTIONS, ("starts", "items", "splits"))
    return SeenItems(*(tensor.numpy() for tensor in tensors)), fingerprint


def read_embeddings(run_dir: Path) -> tuple[Embeddings, str]:
    """Memory-map the final embeddings of a run, and read the fingerprint of its data.

    Raises:
        CheckpointError: If the run has no such file.
        DataError: If the file is damaged.
    """
    tensors, fingerprint = _read_tensors(run_dir, EMBEDDINGS, Embeddings._fields)
    return Embeddings(*tensors), fingerprint


def _read_tensors(run_dir: Path, name: str, fields: Sequence[str]) -> tuple[list[Tensor], str]:
    path = _existing_file(run_dir, name)
    with _report_damage(path), safe_open(path, framework="pt") as file:
        return [file.get_tensor(field) for field in fields], file.metadata()["fingerprint"]


def _existing_file(run_dir: Path, name: str) -> Path:
    """Path of a file of a run; raises CheckpointError if it does not exist."""
    path = current_run(run_dir) / name
    if not path.is_file():
        raise CheckpointError(
            f"run: expected the folder of a finished run, but {run_dir} has no {name}; finish that run, or train it "
            "again with this version"
        )
    return path


@contextlib.contextmanager
def _report_damage(path: Path) -> Iterator[None]:
    """Turn errors that a damaged file causes into a DataError."""
    try:
        yield
    except (SafetensorError, pa.ArrowInvalid, KeyError, TypeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"run: {path} is damaged ({reason:.99}); train that run again") from error


@contextlib.contextmanager
def _atomic_file(path: Path) -> Iterator[Path]:
    """Like `atomic_path`, but turns errors of safetensors into a DataError."""
    try:
        with atomic_path(path) as temporary:
            yield temporary
    except SafetensorError as error:
        raise DataError(f"run: {path} cannot be written ({error}); make room, then train again") from error
