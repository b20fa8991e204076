"""Tests of text vectors of entities, from texts and from files."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from face_lightning.errors import DataError
from face_lightning.words import entity_texts
from face_lightning.words.entity_texts import text_vectors


class LengthEncoder:
    """Encodes a text as two numbers, and records whether a progress bar was requested."""

    width = 2

    def __init__(self) -> None:
        self.progress: list[bool] = []

    def encode(self, texts, batch_size=64, progress=False):
        self.progress.append(progress)
        return torch.tensor([[torch.nan] * 2 if text is None else [len(text), 1.0] for text in texts])


def profiles(**given):
    fields = {"user_texts": ["ab", None], "item_texts": ["abc"], "user_vectors": None, "item_vectors": None}
    return SimpleNamespace(**{**fields, **given})


def test_users_come_before_items_and_missing_texts_are_nan():
    vectors = text_vectors(LengthEncoder(), profiles())
    assert vectors[[0, 2]].tolist() == [[2, 1], [3, 1]]
    assert vectors[1].isnan().all()


def test_precomputed_vectors_replace_texts_and_are_normalised():
    encoder = LengthEncoder()
    vectors = text_vectors(encoder, profiles(item_vectors=np.array([[3.0, 4.0]], dtype=np.float32)))
    torch.testing.assert_close(vectors[2], torch.tensor([0.6, 0.8]))
    assert len(encoder.progress) == 1, "texts of items with vectors are not encoded"


def test_vectors_of_another_width_raise():
    with pytest.raises(DataError, match="item_vectors: expected width 2 of the text encoder, got 3"):
        text_vectors(LengthEncoder(), profiles(item_vectors=np.ones((1, 3), dtype=np.float32)))


def test_no_text_at_all_raises():
    with pytest.raises(DataError, match="got none at all"):
        text_vectors(LengthEncoder(), profiles(user_texts=[None, None], item_texts=[None]))


@pytest.mark.parametrize(("terminal", "rank", "shown"), [(True, 0, True), (True, 1, False), (False, 0, False)])
def test_progress_bar_is_shown_by_one_process_on_a_terminal(monkeypatch, terminal, rank, shown):
    monkeypatch.setattr(entity_texts.sys, "stderr", SimpleNamespace(isatty=lambda: terminal))
    monkeypatch.setattr(entity_texts, "rank", lambda: rank)
    encoder = LengthEncoder()
    vectors = entity_texts._vectors(encoder, "user", ["a"], None)
    assert encoder.progress == [shown]
    assert len(vectors) == 1
