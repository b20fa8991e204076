"""Hyper-parameters in checkpoints are plain values."""

import torch

from face_lightning.hyperparameters import plain_values


def test_other_objects_become_none_and_absolute_paths_lose_their_folders() -> None:
    kept = plain_values({"a": 1, "b": [1.5, "x", None], "c": torch.zeros(1), "d": {"e": object()}, "f": (True,)})
    assert kept == {"a": 1, "b": [1.5, "x", None], "c": None, "d": {"e": None}, "f": [True]}
    assert plain_values(["/home/me/words.txt", "data/words.txt"]) == ["words.txt", "data/words.txt"]
