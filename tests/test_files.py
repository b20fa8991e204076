"""Atomic writes: a file or folder is complete or unchanged, and no temporary one is left."""

import math
from pathlib import Path

import pytest

from face_lightning.files import atomic_folder, atomic_path, strict_json, temporary_path, write_atomically


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_a_file_is_replaced_when_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with atomic_path(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert names(tmp_path) == ["a.txt"]


def write_half(path: Path, error: type[BaseException]) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text("half")
        raise error


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_a_failed_write_leaves_the_old_file_alone(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(error):
        write_half(path, error)
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_a_file_that_cannot_be_renamed_is_removed(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError):
        write_atomically(tmp_path / "folder", "text")
    assert names(tmp_path) == ["folder"]


def test_a_file_has_the_permissions_of_other_new_files(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    with atomic_path(tmp_path / "a.txt") as temporary:
        temporary.touch(mode=0o600)
    assert (tmp_path / "a.txt").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_concurrent_writers_use_different_temporary_files(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    with atomic_path(path) as first, atomic_path(path) as second:
        first.write_text("first")
        second.write_text("second")
    assert path.read_text() == "first"
    assert names(tmp_path) == ["a.txt"]


def test_text_is_written_as_utf_8(tmp_path: Path) -> None:
    write_atomically(tmp_path / "a.txt", "é\n")
    assert (tmp_path / "a.txt").read_bytes() == b"\xc3\xa9\n"


@pytest.mark.parametrize("before", [None, [], ["old.txt"]])
def test_a_folder_is_replaced_as_a_whole(tmp_path: Path, before: list[str] | None) -> None:
    path = tmp_path / "parent" / "folder"
    if before is not None:
        path.mkdir(parents=True)
        for name in before:
            (path / name).touch()
    with atomic_folder(path) as temporary:
        (temporary / "new.txt").touch()
    assert names(tmp_path) == ["parent", "parent/folder", "parent/folder/new.txt"]


def test_a_failed_folder_leaves_the_old_one_alone(tmp_path: Path) -> None:
    path = tmp_path / "folder"
    path.mkdir()
    (path / "old.txt").touch()
    with pytest.raises(FileNotFoundError), atomic_folder(path) as temporary:
        (temporary / "missing" / "new.txt").touch()
    assert names(tmp_path) == ["folder", "folder/old.txt"]


def test_the_old_folder_comes_back_if_the_new_one_cannot_be_renamed(tmp_path: Path) -> None:
    path = tmp_path / "folder"
    path.mkdir()
    (path / "old.txt").touch()
    with pytest.raises(FileNotFoundError), atomic_folder(path) as temporary:
        temporary.rmdir()
    assert names(tmp_path) == ["folder", "folder/old.txt"]


def test_files_at_a_temporary_path_are_removed(tmp_path: Path) -> None:
    with temporary_path(tmp_path / "a") as temporary:
        (temporary / "b").mkdir(parents=True)
    assert names(tmp_path) == []


def test_json_is_strict() -> None:
    value = {"metrics": {"recall": math.nan, "ndcg": 0.5}, "scores": [math.inf, -math.inf, 1], "name": "NaN"}
    text = strict_json(value)
    assert text == '{"metrics": {"recall": null, "ndcg": 0.5}, "scores": [null, null, 1], "name": "NaN"}'
