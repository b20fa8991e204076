from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array

from face_lightning.data.interactions import Interactions
from face_lightning.errors import CheckpointError
from face_lightning.runs.inference import write_data
from face_lightning.runs.row_transfer import transfer_rows


def data(users: list[str], items: list[str], pairs: set[tuple[str, str]]) -> Interactions:
    matrix = csr_array(np.array([[(user, item) in pairs for item in items] for user in users], dtype=np.float32))
    nothing = csr_array(matrix.shape, dtype=np.float32)
    return Interactions.from_matrices(matrix, nothing, nothing, name="films", user_ids=users, item_ids=items)


OLD_PAIRS = {("ann", "x"), ("ann", "y"), ("bob", "y"), ("cat", "x")}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    old = data(["ann", "bob", "cat"], ["x", "y"], OLD_PAIRS)
    splits = [old.matrix(name) for name in ("train", "valid", "test")]
    write_data(tmp_path, splits, (old.user_ids, old.item_ids), None, old.fingerprint)
    return tmp_path


THEIRS = torch.tensor([[2.0, 2.0], [0.0, 2.0], [2.0, 0.0], [1.0, 0.0], [0.0, 1.0]])  # ann bob cat | x y


def test_rows_are_matched_by_id_and_new_ones_folded_in(run: Path) -> None:
    new = data(["dan", "cat", "ann", "eve"], ["z", "y", "x"], {("dan", "y"), ("cat", "x"), ("ann", "z"), ("eve", "z")})
    own = torch.full((7, 2), 9.0)
    table, report = transfer_rows(own, THEIRS, run, new)
    dan, cat, ann, eve, z, y, x = table
    assert [row.tolist() for row in (cat, ann, y, x)] == [[2, 0], [2, 2], [0, 1], [1, 0]]
    assert eve.tolist() == [9, 9], "has new items only, so that she cannot be folded in"
    assert dan[1] > 1
    assert dan[1] > 5 * dan[0].abs(), "likes y, as bob does"
    assert z[0].item() == pytest.approx(z[1].item(), abs=0.05), "liked by ann, who likes both"
    assert (own == 9).all()
    assert report == (
        "; trained on other data, rows transferred: users: 2 of 4 by id, 1 of the new ones from their interactions; "
        "items: 2 of 3 by id, 1 of the new ones from their interactions"
    )


def test_runs_without_ids_or_shared_ids_are_rejected(run: Path, tmp_path: Path) -> None:
    strangers = data(["one"], ["two"], {("one", "two")})
    with pytest.raises(CheckpointError, match="init_from: expected a run that shares users or items with the data"):
        transfer_rows(torch.zeros(2, 2), THEIRS, run, strangers)
    (run / "entities.parquet").unlink()
    with pytest.raises(CheckpointError, match=r"init_from: expected a run on the same data, or one with entities.parq"):
        transfer_rows(torch.zeros(2, 2), THEIRS, run, strangers)
