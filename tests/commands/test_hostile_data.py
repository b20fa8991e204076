"""Broken files of a data set, given to the real command: a one-line error, exit code 2, and nothing written."""

import pickle
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import coo_matrix

from tests.chain.tiny import World
from tests.commands.hostile import Touch
from tests.commands.test_hostile import FILES, VALUES
from tests.commands.test_hostile_checkpoints import CHECKPOINTS
from tests.commands.test_hostile_imports import READ, REFUSED


def matrix(shape: tuple[int, int], fill: float = 1.0) -> bytes:
    return pickle.dumps(coo_matrix(np.full(shape, fill, dtype=np.float32)))


def matrix_of_shape(size: int) -> bytes:
    found = coo_matrix((np.ones(1, np.float32), ([0], [0])), shape=(1, 1))
    found._shape = (size, size)
    return pickle.dumps(found)


DATA: list[tuple[str, str, bytes, str]] = [
    (
        "stage1",
        "trn_mat.pkl",
        pickle.dumps(Touch()),
        r".*trn_mat.pkl: .*plain values only, got posix.system, which was not loaded",
    ),
    ("stage1", "trn_mat.pkl", b"", r".*trn_mat.pkl: expected an intact pickle"),
    ("stage1", "trn_mat.pkl", matrix((40, 30), 0), r".*; .*"),
    ("stage1", "trn_mat.pkl", matrix((40, 30)), r".*; .*"),
    ("stage1", "trn_mat.pkl", pickle.dumps({"a": 1}), r".*trn_mat.pkl.*; .*"),
    ("stage1", "trn_mat.pkl", matrix_of_shape(2**40), r".*trn_mat.pkl: matrix: expected at most .* = 16,384 GiB; co"),
    ("stage1", "val_mat.pkl", matrix((7, 30)), r".*; .*"),
    ("stage1", "tst_mat.pkl", matrix((40, 3)), r".*; .*"),
    ("stage1", "item_ids.txt", b"i0\ni1\n", r".*item_ids.txt.*; .*"),
    ("stage1", "item_ids.txt", b"i0\n" * 30, r".*; .*"),
    ("stage2", "items.jsonl", b"{broken\n", r".*items.jsonl.*; .*"),
    ("stage2", "items.jsonl", b"\xff\xfe\x00", r".*items.jsonl.*; .*"),
]


@pytest.mark.parametrize(
    ("stage", "name", "content", "message"), DATA, ids=[f"{n} {i}" for i, (_, n, *_) in enumerate(DATA)]
)
def test_data(
    world: World,
    tmp_path: Path,
    line_of: Callable[..., str],
    stage: str,
    name: str,
    content: bytes,
    message: str,
) -> None:
    data = tmp_path / "data"
    shutil.copytree(world.root / "data", data)
    (data / name).write_bytes(content)
    assert re.match(message, line_of(world.config(stage), "--data.reader.init_args.root", data))


def test_at_least_130_hostile_inputs_are_covered() -> None:
    assert len(VALUES) + len(FILES) + len(CHECKPOINTS) + len(DATA) + len(REFUSED) + len(READ) >= 130
