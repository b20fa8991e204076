from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import torch
from scipy.sparse import csr_array

from face_lightning.runs.outputs import write_predictions


def test_predictions_omit_seen_items(tmp_path: Path) -> None:
    seen = csr_array(np.array([[1, 0, 0], [1, 1, 1], [0, 1, 1]], dtype=np.float32))
    batches = [
        (torch.tensor([0, 2]), torch.tensor([[2, 1, 0], [0, 1, 2]])),  # seen items fill up the end
        (torch.tensor([1]), torch.tensor([[0, 1, 2]])),
    ]
    ids = SimpleNamespace(user_ids=np.array(["a", "b", "c"]), item_ids=np.array(["x", "y", "z"]))
    path = tmp_path / "predictions.parquet"
    assert write_predictions(batches, seen, ids, path) == 3
    assert pq.read_table(path).to_pylist() == [
        {"user_id": "a", "item_ids": ["z", "y"]},
        {"user_id": "c", "item_ids": ["x"]},
        {"user_id": "b", "item_ids": []},
    ]
    assert [found.name for found in tmp_path.iterdir()] == ["predictions.parquet"]
