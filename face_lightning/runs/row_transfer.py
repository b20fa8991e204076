"""Transfer of a run's tables to other data: known users and items keep their rows, new ones are initialised."""

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
    """Ids and interactions of the training data, such as `Interactions`."""

    user_ids: np.ndarray
    item_ids: np.ndarray
    train: Any

    @property
    def fingerprint(self) -> str:
        """Fingerprint of splits and ids."""


def transfer_rows(own: Tensor, theirs: Tensor, run_dir: Path, data: TrainingData) -> tuple[Tensor, str]:
    """Initialise the table of a stage from that of a run on other data.

    Known users and items keep their rows. New ones are initialised by fold-in (see `FoldIn`) if they have training
    interactions with known ones, and keep their random initialisation otherwise.

    Args:
        own: Table of the stage as initialised, `(U + I, D)`.
        theirs: Table of the run.
        run_dir: Folder of the run, with ids and interactions.
        data: Training data of the stage.

    Returns:
        The table, and a summary of the transfer for the log. If the dimensions differ, `theirs` is returned unchanged.

    Raises:
        CheckpointError: If the run has no ids, or shares none with the data.
    """
    if not (run_dir / ENTITIES).is_file():
        raise CheckpointError(
            f"init_from: expected a run on the same data, or one with {ENTITIES} to match rows by id, but {run_dir} is "
            "neither; start from a run folder, or configure the data of that run"
        )
    if own.shape[1] != theirs.shape[1]:
        return theirs, ""  # the check of shapes will raise
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
    num_folded = []
    for side, (old_matrix, new_matrix) in enumerate((matrices, tuple(matrix.T.tocsr() for matrix in matrices))):
        fold_in = FoldIn(old[1 - side], old[side], old_matrix.indptr.astype(np.int64), old_matrix.indices)
        num_folded.append(_fill_table(new[side], old[side], known[side], known[1 - side], new_matrix, fold_in))
    counts = [
        f"{kind}: {int((rows >= 0).sum())} of {len(rows)} by id, {folded} of the new ones from their interactions"
        for kind, rows, folded in zip(("users", "items"), known, num_folded, strict=True)
    ]
    return torch.cat(new), f"; trained on other data, rows transferred: {'; '.join(counts)}"


def _known_rows(ids: np.ndarray, rows: Mapping[str, int]) -> np.ndarray:
    """Row of each id in the run; -1 if the run does not have it."""
    return np.array([rows.get(str(identifier), -1) for identifier in ids.tolist()], dtype=np.int64)


def _fill_table(
    table: Tensor,
    old: Tensor,
    known: np.ndarray,
    known_partners: np.ndarray,
    interactions: Any,  # noqa: ANN401 a sparse array
    fold_in: FoldIn,
) -> int:
    """Fill the table of users, or of items, in place.

    Returns:
        Number of new rows that are initialised by fold-in.
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
