"""Damaged, foreign and hostile checkpoints, given to the real command, and a disk that is full during a save."""

import errno
import pickle
import re
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.chain.tiny import QUIET, World, fit
from tests.commands.hostile import Touch

OF_ANOTHER = r"ckpt_path: expected a state that names checkpoints of its own folder, got '../../data/items.jsonl', a f"


def spoil_archive(path: Path) -> None:
    """Change a number in the middle of the largest tensor, which torch.load does not notice."""
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        largest = max(archive.infolist(), key=lambda info: info.file_size)
    content[largest.header_offset + largest.compress_size // 2 + 100] ^= 0x40
    path.write_bytes(content)


def deflate(path: Path) -> None:
    """Compress the content, which torch reads but never writes; a small file could exhaust the memory."""
    with zipfile.ZipFile(path) as archive:
        entries = {info.filename: archive.read(info) for info in archive.infolist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)


def spoil_header(path: Path) -> None:
    """Change a bit of an entry's name in its own header."""
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        content[archive.infolist()[1].header_offset + 32] ^= 0x01
    path.write_bytes(content)


def point_at(*names: str) -> Callable[[Path], Any]:
    """Make the state of the checkpoint callback name a file of the user, which resuming would delete."""

    def spoil(path: Path) -> None:
        content = torch.load(path, weights_only=True)
        for state in content["callbacks"].values():
            if "best_k_models" in state:
                target = "../../data/items.jsonl"
                state |= {name: {target: torch.tensor(0.0)} if name == "best_k_models" else target for name in names}
        torch.save(content, path)

    return spoil


def change(name: str, value: Any = None) -> Callable[[Path], Any]:
    """Replace an entry of the checkpoint, or remove it if the value is None."""

    def spoil(path: Path) -> None:
        content = torch.load(path, weights_only=True)
        *above, last = name.split("/")
        place = content
        for key in above:
            place = place[key]
        place.pop(last) if value is None else place.update({last: value})
        torch.save(content, path)

    return spoil


OF_OTHER_TYPE = r"ckpt_path: expected a checkpoint that a stage wrote, but {} of .* is str instead of {}; use another"
LACKS = r"ckpt_path: expected a checkpoint that a stage wrote, but .* lacks {}; use another checkpoint, or --init_from"
CHECKPOINTS: list[tuple[str, Callable[[Path], Any], str]] = [
    ("empty", lambda path: path.write_bytes(b""), r".* cannot be read .*; use \S*previous.ckpt, which is intact, or"),
    (
        "cut",
        lambda path: path.write_bytes(path.read_bytes()[:-900]),
        r".* cannot be read .*; use \S*previous.ckpt, whic",
    ),
    (
        "one bit",
        spoil_archive,
        r".* cannot be read \(wrong checksum of .*\), as .*; use \S*previous.ckpt, which is intact",
    ),
    ("deflated", deflate, r".* cannot be read \(\S+ of [\d,]+ MiB is compressed to 0.\d+ MiB\), as it is damaged or"),
    ("header", spoil_header, r".* cannot be read \(.*\), as it is damaged or foreign; use \S*previous.ckpt"),
    ("code", lambda path: torch.save({"state_dict": Touch()}, path), r".* cannot be read \(Weights only load failed"),
    ("old pickle", lambda path: path.write_bytes(pickle.dumps(Touch())), r".* cannot be read \(File is not a zip file"),
    ("list", lambda path: torch.save([1, 2], path), r"ckpt_path: expected a checkpoint that a stage .*; use another"),
    ("folder", lambda path: (path.unlink(), path.mkdir()), r"ckpt_path: expected a checkpoint, but there is no file"),
    ("kth best", point_at("kth_best_model_path", "best_k_models"), OF_ANOTHER),
    ("best", point_at("best_model_path"), OF_ANOTHER),
    ("last", point_at("last_model_path"), OF_ANOTHER),
    ("weights as text", change("state_dict", "evil"), OF_OTHER_TYPE.format("state_dict", "dict")),
    ("data as text", change("data", "evil"), OF_OTHER_TYPE.format("data", "dict")),
    ("no optimizer", change("optimizer_states"), LACKS.format("optimizer_states")),
    ("version", change("pytorch-lightning_version", "evil"), LACKS.format("pytorch-lightning_version")),
    ("gone", lambda path: path.unlink(), r"ckpt_path: expected a checkpoint, but there is no file .*previous.ckpt"),
]


@pytest.mark.parametrize(("name", "spoil", "message"), CHECKPOINTS, ids=[case[0] for case in CHECKPOINTS])
def test_checkpoints(
    world: World, tmp_path: Path, line_of: Callable[..., str], name: str, spoil: Callable[[Path], Any], message: str
) -> None:
    run = tmp_path / "spoilt"
    shutil.copytree(world.run("stage1"), run)
    shutil.copy(run / "checkpoints" / "last.ckpt", run / "checkpoints" / "previous.ckpt")
    spoil(run / "checkpoints" / "last.ckpt")
    assert re.match(message, line_of(world.config("stage1"), "--ckpt_path", "last", run_dir=run))


@pytest.mark.parametrize("name", ["callbacks/RunRecorder/seconds", "optimizer_states", "loops"])
def test_states_that_cannot_be_restored(
    world: World, tmp_path: Path, capfd: pytest.CaptureFixture[str], name: str
) -> None:
    run = tmp_path / "spoilt"
    shutil.copytree(world.run("stage1"), run)
    value = ["evil"] if name != "loops" else {"fit_loop": "evil"}
    change(name, value)(run / "checkpoints" / "last.ckpt")
    assert fit(world.config("stage1"), "--run_dir", run, "--ckpt_path", "last", "--trainer.max_epochs", "2") == 2
    line = capfd.readouterr().err.splitlines()[-1]
    assert re.match(r"face: error: ckpt_path: expected a state .* cannot be restored \(\w+: .*\); use another", line)


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), RuntimeError("unexpected pos 7")])
def test_full_disk_keeps_the_last_good_state(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], error: Exception
) -> None:
    run, save, count = tmp_path / "run", torch.save, [0]

    def fill(content: Any, file: Any) -> None:
        count[0] += 1
        if count[0] == 4:
            file.write(b"half")
            raise error
        save(content, file)

    monkeypatch.setattr(torch, "save", fill)
    assert fit(world.config("stage1"), "--run_dir", run) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert re.match(
        r"face: error: checkpoint: \S+ cannot be written \(.*\); earlier checkpoints are intact: make room", line
    )
    assert not list(run.rglob("*.tmp"))
    monkeypatch.setattr(torch, "save", save)
    assert fit(world.config("stage1"), "--run_dir", run, "--ckpt_path", "last", *QUIET) == 0
