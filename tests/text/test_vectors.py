from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from face_lightning.distributed import rank
from face_lightning.text.encoders import TextEncoder
from face_lightning.text.vectors import encode_in_shards
from tests.processes import together


class Counting:
    """Encodes a text as its length and first letter, and records the texts."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.asked: list[list[str]] = []
        self.stop_after = stop_after

    def __call__(self, texts: list[str]) -> torch.Tensor:
        if len(self.asked) == self.stop_after:
            raise KeyboardInterrupt
        self.asked.append(texts)
        return torch.tensor([[len(text), float(ord(text[0]))] for text in texts])


TEXTS = ["bb", None, "a", "dddd", "bb", "ccc", "e", None, "ffffff"]


def expected(texts: list[str | None]) -> torch.Tensor:
    missing = [torch.nan, torch.nan]
    return torch.tensor([missing if text is None else [len(text), float(ord(text[0]))] for text in texts])


@given(st.lists(st.none() | st.text("abc", min_size=1, max_size=5), max_size=30).filter(any), st.integers(1, 10))
def test_rows_are_in_the_order_of_the_texts(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str | None], shard_size: int
) -> None:
    path = tmp_path_factory.mktemp("vectors") / "a.npy"
    found = encode_in_shards(texts, Counting(), path, shard_size)
    assert torch.equal(found.nan_to_num(-1), expected(texts).nan_to_num(-1))
    assert [file.name for file in path.parent.iterdir()] == ["a.npy"]


def test_shards_hold_distinct_texts_sorted_by_length(tmp_path: Path) -> None:
    encode = Counting()
    encode_in_shards(TEXTS, encode, tmp_path / "a.npy", 2)
    assert encode.asked == [["ffffff", "dddd"], ["ccc", "bb"], ["a", "e"]]


@pytest.mark.parametrize("stop_after", [0, 1, 2])
def test_interrupted_run_continues_with_the_next_shard(tmp_path: Path, stop_after: int) -> None:
    stopped, resumed = Counting(stop_after), Counting()
    with pytest.raises(KeyboardInterrupt):
        encode_in_shards(TEXTS, stopped, tmp_path / "a.npy", 2)
    assert not (tmp_path / "a.npy").exists()
    found = encode_in_shards(TEXTS, resumed, tmp_path / "a.npy", 2)
    assert stopped.asked + resumed.asked == [["ffffff", "dddd"], ["ccc", "bb"], ["a", "e"]]
    assert torch.equal(found.nan_to_num(-1), expected(TEXTS).nan_to_num(-1))
    again = Counting()
    encode_in_shards(TEXTS, again, tmp_path / "a.npy", 2)
    assert not again.asked


def test_damaged_shard_is_encoded_again(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        encode_in_shards(TEXTS, Counting(2), tmp_path / "a.npy", 2)
    first, _ = sorted((tmp_path / "a.shards").iterdir())
    first.write_bytes(first.read_bytes()[:-3])
    resumed = Counting()
    found = encode_in_shards(TEXTS, resumed, tmp_path / "a.npy", 2)
    assert resumed.asked == [["ffffff", "dddd"], ["a", "e"]]
    assert torch.equal(found.nan_to_num(-1), expected(TEXTS).nan_to_num(-1))


def test_process_reuses_the_shards_of_others(tmp_path: Path) -> None:
    """Encode as the second of two processes, with the shards of the first in place."""
    with pytest.raises(KeyboardInterrupt):
        encode_in_shards(TEXTS, Counting(2), tmp_path / "a.npy", 2, rank=0, world_size=2)  # shards 0 and 2
    second = Counting()
    found = encode_in_shards(TEXTS, second, tmp_path / "a.npy", 2, rank=1, world_size=2)
    assert second.asked == [["ccc", "bb"]]
    assert torch.equal(found.nan_to_num(-1), expected(TEXTS).nan_to_num(-1))


def test_vectors_are_memory_mapped_copy_on_write(tmp_path: Path) -> None:
    found = encode_in_shards(TEXTS, Counting(), tmp_path / "a.npy", 2)
    found[0] = 7.0
    assert np.load(tmp_path / "a.npy")[0].tolist() == [2.0, float(ord("b"))]


def test_sharding_without_texts_raises(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected at least one text"):
        encode_in_shards([None], Counting(), tmp_path / "a.npy")


def test_the_encoder_shards_many_texts(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = ["a toy", None, "the love and a robot more", "the toy", "a toy", "a war", "a ship and a war"]
    whole = TextEncoder(str(tiny_model), "float32", tmp_path / "whole").encode(texts)
    monkeypatch.setattr("face_lightning.text.encoders.SHARD", 2)
    monkeypatch.setattr("face_lightning.text.encoders.encode_in_shards", lambda *a: encode_in_shards(*a, shard_size=2))
    encoder = TextEncoder(str(tiny_model), "float32", tmp_path / "shards")
    torch.testing.assert_close(encoder.encode(texts), whole, atol=1e-6, rtol=0, equal_nan=True)
    assert [path.suffix for path in (tmp_path / "shards" / "vectors").iterdir()] == [".npy"]
    monkeypatch.setattr(TextEncoder, "_sentence_transformer", None)  # the second call must not load the model
    torch.testing.assert_close(encoder.encode(texts), whole, atol=1e-6, rtol=0, equal_nan=True)


def encode_a_share(folder: Path, shared: bool) -> list[str]:
    """Return the texts that this process has encoded."""
    asked: list[str] = []

    def encode(texts: list[str]) -> torch.Tensor:
        asked.extend(texts)
        return torch.tensor([[float(len(text))] for text in texts])

    own = folder if shared else folder / str(rank())
    own.mkdir(exist_ok=True)
    found = encode_in_shards(["a", "bb", None, "ccc", "dddd"], encode, own / "a.npy", 1)
    assert found.nan_to_num(-1).flatten().tolist() == [1, 2, -1, 3, 4], found
    return sorted(asked)


@pytest.mark.parametrize(
    ("shared", "asked"),
    [
        (True, [["bb", "dddd"], ["a", "ccc"]]),
        (False, [["a", "bb", "ccc", "dddd"]] * 2),  # without a common folder each process encodes all
    ],
)
def test_two_processes_share_the_work(tmp_path: Path, shared: bool, asked: list[list[str]]) -> None:
    assert together(2, encode_a_share, tmp_path, shared) == asked
