import json
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array

from benchmarks.cold_start import ChunkedSoftmax, ColdItems, warm_recall
from face_lightning.data.datamodule import InteractionDataModule
from face_lightning.graph import build_graph
from face_lightning.losses import SampledSoftmax
from face_lightning.structures import Embeddings, TrainingBatch


@pytest.fixture
def reader(tmp_path: Path) -> ColdItems:
    """Every one of 8 users has every one of 20 items; a fifth of these is cold."""
    pairs = [f"{user},{item}" for user in range(8) for item in range(20)]
    (tmp_path / "clicks.csv").write_text("\n".join(["user_id,item_id", *pairs]))
    items = [json.dumps({"item_id": item, "tags": [f"tag {item}"] if item else []}) for item in range(20)]
    (tmp_path / "items.jsonl").write_text("\n".join(items))
    return ColdItems(tmp_path, 0)


def test_cold_items_have_texts_and_no_warm_interaction(reader: ColdItems) -> None:
    cold = np.concatenate(list(reader.cold.values()))
    assert len(set(cold)) == 4
    dataset = reader.read()
    assert dataset.profiles is not None
    assert [text is None for text in dataset.profiles.item_texts] == [True] + [False] * 19
    for split in ("train", "valid", "test"):
        assert dataset.interactions.matrix(split)[:, cold].nnz == 0
    assert [len(split) for split in reader.splits] == [102, 13, 13]


def test_cold_items_take_places_of_warm_ones_in_a_common_ranking(reader: ColdItems) -> None:
    data = InteractionDataModule(reader, batch_size=8)
    data.setup("test")
    items = torch.ones(20, 1)
    assert warm_recall(data, Embeddings(torch.ones(8, 1), items)) == 1.0  # 20 places for 20 items
    cold = np.concatenate(list(reader.cold.values()))
    assert warm_recall(data, Embeddings(torch.ones(8, 1), items), top_k=4) > 0.0
    items[cold] = 2.0
    assert warm_recall(data, Embeddings(torch.ones(8, 1), items), top_k=4) == 0.0


def test_softmax_in_chunks_is_the_mean_of_its_chunks() -> None:
    draws = torch.Generator().manual_seed(0)
    users, items = (torch.randint(5, (1500,), generator=draws) for _ in range(2))
    none = torch.tensor([], dtype=torch.int64)
    batch = TrainingBatch(users, items, items, none)
    graph = build_graph(csr_array(np.ones((5, 5), dtype=np.float32)))
    embeddings = Embeddings(*(torch.randn(5, 3, generator=draws) for _ in range(2)))
    plain = SampledSoftmax("batch", cosine=True)
    first, second = (
        plain(batch._replace(user_ids=users[rows], positive_ids=items[rows]), embeddings, graph)
        for rows in (slice(1024), slice(1024, None))
    )
    chunked = ChunkedSoftmax("batch", cosine=True)(batch, embeddings, graph)
    assert float(chunked) == pytest.approx(float((1024 * first + 476 * second) / 1500))
