from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from face_lightning.text.cache import content_key, file_key, load_tensors, sampled_key, save_tensors

PARTS = st.lists(st.text(max_size=4), max_size=4)


@given(PARTS, PARTS)
def test_keys_are_equal_exactly_when_the_parts_are(left: list[str], right: list[str]) -> None:
    assert (content_key(left) == content_key(right)) == (left == right)


def test_invalid_unicode_has_a_key() -> None:
    assert content_key(["\ud800"]) != content_key(["?"])


def test_file_key_is_the_sha256_of_the_content(tmp_path: Path) -> None:
    path = tmp_path / "abc"
    path.write_bytes(b"abc")
    assert file_key(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_tensors_and_metadata_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "x.safetensors"
    rows = torch.arange(6.0).view(2, 3)
    save_tensors(path, {"turned": rows.T, "ids": torch.tensor([3])}, {"words": "a b"})
    tensors, metadata = load_tensors(path) or ({}, {})
    assert torch.equal(tensors["turned"], rows.T)
    assert torch.equal(tensors["ids"], torch.tensor([3]))
    assert metadata == {"words": "a b"}
    assert [p.name for p in path.parent.iterdir()] == ["x.safetensors"]


def test_missing_and_damaged_files_load_as_none(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    assert load_tensors(path) is None
    path.write_bytes(b"half a file")
    assert load_tensors(path) is None


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.safetensors"
    save_tensors(path, {"x": torch.ones(1)}, {})

    def full(tensors: object, file: Path, metadata: object) -> None:
        file.write_bytes(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr("face_lightning.text.cache.save_file", full)
    with pytest.raises(OSError, match="no space"):
        save_tensors(path, {"x": torch.zeros(1)}, {})
    assert [p.name for p in tmp_path.iterdir()] == ["x.safetensors"]
    assert load_tensors(path) == ({"x": torch.ones(1)}, {})


def test_sampled_keys_depend_on_size_ends_and_samples(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    size = 9 * 2**20

    def key(*changed: int, length: int = size) -> str:
        content = bytearray(length)
        for place in changed:
            content[place] = 1
        path.write_bytes(content)
        return sampled_key(path, whole_below=2**20, blocks=4)

    assert key() == key()
    keys = {key(), key(0), key(size - 1), key(3 * 2**20), key(length=size + 1)}
    assert len(keys) == 5
    path.write_bytes(b"small")
    assert sampled_key(path) == file_key(path)
