"""Tables of a run on other data: rows of known users and items by original id, and a start for new ones."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from face_lightning.errors import CheckpointError
from face_lightning.fold_in import FoldIn
from face_lightning.runs.inference import ENTITIES, read_entities, read_interactions

TABLE = "backbone.tables.weight"  # users, then items


class TrainingData(Protocol):
    """What a transfer looks at: `Interactions`."""

    user_ids: np.ndarray
    item_ids: np.ndarray
    train: Any

    @property
    def fingerprint(self) -> str:
        """Of splits and ids."""


def transfer_rows(own: Tensor, theirs: Tensor, run_dir: Path, data: TrainingData) -> tuple[Tensor, str]:
    """Build the table of a stage from that of a run on other data.

    Known users and items keep their rows. New ones that have interactions with known ones in training start at
    what these suggest (see `FoldIn`), all others as they are initialised.

    Args:
        own: The stage's table as it is initialised, `(U + I, D)`.
        theirs: The run's.
        run_dir: Folder of the run, which keeps ids and interactions.
        data: What the stage is trained on.

    Returns:
        The table, and what to say about it.

    Raises:
        CheckpointError: If the run keeps no ids, shares none with the data, or has other dimensions.
    """
    if not (run_dir / ENTITIES).is_file():
        raise CheckpointError(
            f"init_from: trained on other data than these, and {run_dir} has no {ENTITIES} to take rows over by id; "
            "start from a run folder, or configure the data of that run"
        )
    if own.shape[1] != theirs.shape[1]:
        return theirs, ""  # told by the check of shapes
    entities, (seen, _) = read_entities(run_dir), read_interactions(run_dir)
    known = [_known_rows(data.user_ids, entities.user_rows), _known_rows(data.item_ids, entities.item_rows)]
    if not any((rows >= 0).any() for rows in known):
        raise CheckpointError(
            f"init_from: expected a run that shares users or items with the data, but {run_dir} shares no id; give "
            "another run, or start without init_from"
        )
    old = theirs.split([len(entities.user_ids), len(entities.item_ids)])
    new = [side.clone() for side in own.split([len(data.user_ids), len(data.item_ids)])]
    matrices = seen.matrix(0, len(entities.item_ids)), data.train
    started = []
    for side, (old_matrix, new_matrix) in enumerate((matrices, tuple(matrix.T.tocsr() for matrix in matrices))):
        fold_in = FoldIn(old[1 - side], old[side], old_matrix.indptr.astype(np.int64), old_matrix.indices)
        started.append(_start(new[side], old[side], known[side], known[1 - side], new_matrix, fold_in))
    counts = [
        f"{kind}: {int((rows >= 0).sum())} of {len(rows)} by id, {folded} of the new ones from their interactions"
        for kind, rows, folded in zip(("users", "items"), known, started, strict=True)
    ]
    return torch.cat(new), f"; trained on other data, rows taken over: {'; '.join(counts)}"


def _known_rows(ids: np.ndarray, rows: Mapping[str, int]) -> np.ndarray:
    """Row of each id in the run; -1 where it has none."""
    return np.array([rows.get(str(identifier), -1) for identifier in ids.tolist()], dtype=np.int64)


def _start(
    table: Tensor,
    old: Tensor,
    known: np.ndarray,
    known_partners: np.ndarray,
    interactions: Any,  # noqa: ANN401 a sparse array
    fold_in: FoldIn,
) -> int:
    """Fill a side's table in place.

    Returns:
        Number of new rows that follow from interactions.
    """
    shared = torch.from_numpy(known >= 0)
    table[shared] = old[torch.from_numpy(known[known >= 0])].to(table)
    owners = np.repeat(np.arange(len(known)), np.diff(interactions.indptr))
    partners = known_partners[interactions.indices]
    usable = (known[owners] < 0) & (partners >= 0)
    owners, partners = owners[usable], partners[usable]
    rows, counts = np.unique(owners, return_counts=True)
    if len(rows):
        table[torch.from_numpy(rows)] = fold_in.embed(partners, counts).to(table)
    return len(rows)
