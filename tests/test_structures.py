"""Tests of the gathering of embeddings."""

import torch

from face_lightning.structures import Embeddings, TrainingBatch


def test_entities_are_gathered_from_both_tables() -> None:
    users, items = torch.randn(3, 4), torch.randn(5, 4)
    ids = torch.tensor([7, 0, 3, 2])
    expected = torch.cat([users, items])[ids]
    assert torch.equal(Embeddings(users, items).gather(ids), expected)
    for side in (torch.tensor([1]), torch.tensor([4, 5]), torch.tensor([], dtype=torch.long)):  # one table or none
        assert torch.equal(Embeddings(users, items).gather(side), torch.cat([users, items])[side])


def test_a_batch_gathers_its_users_and_items() -> None:
    users, items = torch.randn(3, 4), torch.randn(5, 4)
    pairs = torch.tensor([0, 2]), torch.tensor([4, 1]), torch.tensor([3, 3])
    rows = TrainingBatch(*pairs, torch.tensor([1])).gather(Embeddings(users, items))
    for found, expected in zip(rows, (users[[0, 2]], items[[4, 1]], items[[3, 3]]), strict=True):
        assert torch.equal(found, expected)


def test_mean_rows_count_interactions_or_entities() -> None:
    some, none = torch.tensor([0, 1, 2]), torch.tensor([], dtype=torch.long)
    assert TrainingBatch(some, some, some, some[:2], 1.5, 0.5).mean_rows == 2
    assert TrainingBatch(none, none, none, some[:2], 1.0, 0.5).mean_rows == 4
