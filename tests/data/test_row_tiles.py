"""Tests of tiles of rows: every interaction once, for any batch size and number of ranks."""

import numpy as np
import pytest
from scipy.sparse import csr_array

from face_lightning.data.row_tiles import RowLoader


def matrix() -> np.ndarray:
    cells = (np.random.default_rng(0).random((17, 11)) < np.linspace(0.05, 0.9, 17)[:, None]).astype(np.float32)
    cells[4] = cells[:, 2] = 0  # an empty row and an empty column
    return cells


@pytest.mark.parametrize("batch_size", [1, 13, 1000])
@pytest.mark.parametrize("world_size", [1, 3])
def test_every_interaction_occurs_once_per_side(batch_size: int, world_size: int) -> None:
    cells = matrix()
    loaders = [
        RowLoader(csr_array(cells), batch_size=batch_size, rank=rank, world_size=world_size)
        for rank in range(world_size)
    ]
    found = {True: np.zeros_like(cells), False: np.zeros_like(cells.T)}
    rows: dict[bool, list[int]] = {True: [], False: []}
    for batches in zip(*loaders, strict=True):  # all ranks take the same steps
        assert len({batch.of_users for batch in batches}) == 1
        for batch in batches:
            assert batch.column_ids.numel() <= max(batch_size, batch.column_ids.shape[1])
            rows[batch.of_users] += batch.row_ids.tolist()
            for row, columns, length in zip(batch.row_ids, batch.column_ids, batch.lengths, strict=True):
                found[batch.of_users][row, columns[:length]] += 1
    assert (found[True] == cells).all()
    assert (found[False] == cells.T).all()
    assert sorted(rows[True]) == list(range(17))
    assert sorted(rows[False]) == list(range(11))


def test_users_precede_items_and_resumes_are_exact() -> None:
    loader = RowLoader(csr_array(matrix()), batch_size=13)
    whole = list(loader)
    assert [batch.of_users for batch in whole] == sorted((batch.of_users for batch in whole), reverse=True)
    iterator = iter(loader)
    for _ in range(5):
        next(iterator)
    resumed = RowLoader(csr_array(matrix()), batch_size=13)
    resumed.load_state_dict(loader.state_dict())
    rest = list(resumed)
    assert [batch.row_ids.tolist() for batch in rest] == [batch.row_ids.tolist() for batch in whole[5:]]
    assert len(list(resumed)) == len(whole)  # the next epoch starts at the beginning
