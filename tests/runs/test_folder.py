"""Run folders are used by one run at a time, and an earlier run is kept until its successor has saved."""

import fcntl
import os
from pathlib import Path

import pytest

from face_lightning.errors import ConfigurationError
from face_lightning.runs.folder import RunFolder, clear_run, current_run, finished, holds_run


def write(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_a_second_run_is_rejected_while_the_first_is_running(tmp_path: Path) -> None:
    first, second = RunFolder(tmp_path / "run"), RunFolder(tmp_path / "run")
    first.lock()
    with pytest.raises(ConfigurationError, match=r"another process is training in .*run; wait for it, or give another"):
        second.lock()
    first.unlock()
    second.lock()
    second.unlock()
    assert list((tmp_path / "run").iterdir()) == [], "a lock leaves no file"


def test_file_systems_without_locks_are_supported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(95, os.strerror(95))

    monkeypatch.setattr(fcntl, "flock", refuse)
    first, second = RunFolder(tmp_path / "run"), RunFolder(tmp_path / "run")
    first.lock()
    second.lock()
    assert list((tmp_path / "run").iterdir()) == [], "the folder is there for both, and nothing else"


OLD = ("checkpoints/best.ckpt", "checkpoints/last.ckpt", "metrics.jsonl", "result.json")


def test_an_earlier_run_is_restored(tmp_path: Path) -> None:
    write(tmp_path, *OLD, "mine.txt")
    folder = RunFolder(tmp_path)
    folder.lock()
    folder.set_aside()
    assert not holds_run(tmp_path)
    write(tmp_path, "config.yaml", "metrics.jsonl")
    (tmp_path / "metrics.jsonl").write_text("new")
    folder.restore()
    assert files(tmp_path) == {*OLD, "mine.txt"}
    assert (tmp_path / "metrics.jsonl").read_text() == "metrics.jsonl"


@pytest.mark.parametrize("saved", [False, True])
def test_the_next_start_repairs_the_folder_after_a_crash(tmp_path: Path, saved: bool) -> None:
    write(tmp_path, *OLD)
    crashed = RunFolder(tmp_path)
    crashed.lock()
    crashed.set_aside()
    write(tmp_path, ".result.json.0123456789ab.tmp", "checkpoints/.best.ckpt.0123456789ab.tmp")
    write(tmp_path, "config.yaml", *(["checkpoints/last.ckpt"] if saved else []))
    crashed.unlock()
    RunFolder(tmp_path).lock()
    assert files(tmp_path) == ({"config.yaml", "checkpoints/last.ckpt"} if saved else set(OLD))


def test_an_unused_new_folder_is_removed(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "a" / "run")
    folder.lock()
    write(tmp_path / "a" / "run", "config.yaml", "checkpoints/.last.ckpt.0123456789ab.tmp")
    folder.restore()
    assert not (tmp_path / "a" / "run").exists()


def test_clearing_keeps_files_of_the_user(tmp_path: Path) -> None:
    write(tmp_path, *OLD, "notes.md", "checkpoints/mine.pt")
    clear_run(tmp_path)
    assert files(tmp_path) == {"notes.md", "checkpoints/mine.pt"}


def test_finished_compares_the_fingerprint(tmp_path: Path) -> None:
    assert not finished(tmp_path, "a")
    (tmp_path / "result.json").write_text('{"fingerprint": "a"}')
    assert finished(tmp_path, "a")
    assert not finished(tmp_path, "b")
    (tmp_path / "result.json").write_text('{"fing')
    assert not finished(tmp_path, "a")


def test_files_of_the_user_are_kept(tmp_path: Path) -> None:
    own = ("checkpoints/thesis.ckpt", "predictions-of-me.parquet")
    write(tmp_path, *own, *OLD)
    folder = RunFolder(tmp_path)
    folder.lock()
    folder.set_aside()
    assert files(tmp_path) == {*own, *(f".replaced/{name}" for name in OLD)}
    folder.discard()
    clear_run(tmp_path)
    assert files(tmp_path) == {*own}
    assert not holds_run(tmp_path)


@pytest.mark.parametrize("name", ["checkpoints", ".replaced", "metrics.jsonl"])
def test_links_within_a_run_folder_are_rejected(tmp_path: Path, name: str) -> None:
    write(tmp_path / "elsewhere", "best.ckpt")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigurationError, match=rf"but .*{name} is a link, and files behind it could be"):
        RunFolder(tmp_path / "run").lock()
    assert files(tmp_path / "elsewhere") == {"best.ckpt"}


def test_a_run_set_aside_is_the_current_one_until_the_new_one_has_saved(tmp_path: Path) -> None:
    write(tmp_path, *OLD)
    folder = RunFolder(tmp_path)
    folder.lock()
    assert current_run(tmp_path) == tmp_path
    folder.set_aside()
    write(tmp_path, "config.yaml")
    assert current_run(tmp_path) == tmp_path / ".replaced"
    write(tmp_path, "checkpoints/last.ckpt")
    assert current_run(tmp_path) == tmp_path
