"""Every mistake of a user, by the real command: exit code 2, one line, nothing half-written."""

import datetime
import pickle
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.chain.tiny import QUIET, World, checkpoint, face, fit, process

Refused = Callable[..., str]


@pytest.fixture
def refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Refused:
    """Runs a command that must fail in one line, and gives the line without `face: error: `."""

    def run(*arguments: str | Path) -> str:
        capfd.readouterr()
        run_dir = tmp_path / "run"
        more = [*QUIET, "--run_dir", run_dir] if arguments[0] in ("fit", "test", "validate") else []
        assert face(*arguments, *more) == 2
        lines = [line for line in capfd.readouterr().err.splitlines() if not line.startswith("Batches")]
        (line,) = lines
        assert line.startswith("face: error: ")
        assert not run_dir.exists()
        return line.removeprefix("face: error: ")

    return run


@pytest.fixture
def data(world: World, tmp_path: Path) -> tuple[Path, list[str]]:
    """A copy of the data set to spoil, and the arguments that name it."""
    folder = tmp_path / "data"
    shutil.copytree(world.root / "data", folder)
    return folder, ["--data.reader.init_args.root", str(folder)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["data", "nosuch"], r"name: expected one of ml-100k, got 'nosuch'; .*face data import"),
        (["nosuch"], r"command: expected one of fit, .*, got 'nosuch'"),
        (["fit", "--config", "nosuch.yaml"], r"config: expected a file, but there is no \S*nosuch.yaml; correct"),
        (["fit"], r"fit.data.reader, fit.model: expected, but not given; name a file with --config"),
        (["describe"], r"the following arguments are required: --run; see face describe --help"),
        (["describe", "--run", "nosuch", "--no"], r"unrecognized arguments: --no; see face describe --help"),
        (["describe", "--run", "nosuch", "--items", "1"], r"run: nosuch has no descriptors.parquet; name the folder"),
    ],
)
def test_commands_and_files_that_are_not_there(refused: Refused, arguments: list[str], message: str) -> None:
    assert re.match(message, refused(*arguments))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"\S*val_mat.pkl: expected a pickle file, got no file; check"),
        (b"\x80\x04\x95", r"\S*val_mat.pkl: expected an intact pickle, got a damaged one .*; copy it again"),
        (pickle.dumps(datetime.date(2020, 1, 1)), r"\S*val_mat.pkl: .* got datetime.date, .*; save"),
    ],
)
def test_missing_truncated_and_foreign_data(
    world: World, refused: Refused, data: tuple[Path, list[str]], content: bytes | None, message: str
) -> None:
    folder, arguments = data
    (folder / "val_mat.pkl").unlink()
    if content is not None:
        (folder / "val_mat.pkl").write_bytes(content)
    assert re.match(message, refused("fit", "--config", world.config("stage1"), *arguments))


def test_truncated_matrix(world: World, refused: Refused, data: tuple[Path, list[str]]) -> None:
    path = data[0] / "trn_mat.pkl"
    path.write_bytes(path.read_bytes()[:-40])
    line = refused("fit", "--config", world.config("stage1"), *data[1])
    assert re.match(r"\S*trn_mat.pkl: expected an intact pickle", line)


def test_stage_without_its_texts(chain: World, refused: Refused, data: tuple[Path, list[str]]) -> None:
    (data[0] / "items.jsonl").unlink()
    line = refused("fit", "--config", chain.config("stage2"), *data[1])
    assert re.match(r"data.reader: expected texts .*, got none from RLMRecFolder; use a reader with texts, or", line)


def test_vectors_of_other_entities(chain: World, refused: Refused, data: tuple[Path, list[str]]) -> None:
    (data[0] / "usr_emb_np.pkl").write_bytes(pickle.dumps(np.ones((3, 16), np.float32)))
    line = refused("fit", "--config", chain.config("stage2"), *data[1])
    assert re.match(r"\S*usr_emb_np.pkl: expected 40 text vectors, .* got 3; use those of this data set", line)


def test_vectors_of_another_encoder(chain: World, refused: Refused, data: tuple[Path, list[str]]) -> None:
    (data[0] / "usr_emb_np.pkl").write_bytes(pickle.dumps(np.ones((40, 5), np.float32)))
    line = refused("fit", "--config", chain.config("stage2"), *data[1])
    assert re.match(r"user_vectors: expected width 16 of the text encoder, got 5; encode", line)


def test_grounding_that_masks_entities(chain: World, refused: Refused) -> None:
    line = refused("fit", "--config", chain.config("stage3"), "--model.init_args.grounding=GenerativeText")
    assert line == "grounding: expected a loss that does not mask entities, got GenerativeText; use ContrastiveText"


@pytest.mark.parametrize("command", ["fit", "test"])
def test_checkpoint_of_another_stage(chain: World, refused: Refused, command: str) -> None:
    path = chain.run("stage2") / "checkpoints" / "best.ckpt"
    line = refused(command, "--config", chain.config("stage3"), "--ckpt_path", path)
    assert re.match(r"ckpt_path: expected .* stage 'alignment', got one of stage 'mapping' .*use --init_from", line)


@pytest.mark.parametrize(
    ("argument", "given", "message"),
    [
        ("ckpt_path", "nosuch.ckpt", r"ckpt_path: expected a checkpoint, but there is no file nosuch.ckpt; train"),
        ("ckpt_path", "last", r"ckpt_path: expected a checkpoint, but there is no file \S*run/checkpoints/last.ckpt;"),
        ("ckpt_path", "damaged", r"ckpt_path: expected .*damaged cannot be read .*; use another checkpoint"),
        ("ckpt_path", "foreign", r"ckpt_path: expected a checkpoint that a stage .*; use another checkpoint"),
        ("init_from", "nosuch", r"init_from: expected a run folder or a checkpoint, but nosuch does not exist; run"),
        ("init_from", "empty", r"init_from: \S*empty has no checkpoints/best.ckpt; finish that run first"),
        ("init_from", "damaged", r"init_from: expected .*damaged cannot be read .*; use another checkpoint"),
        ("init_from", "nothing", r"init_from: \S*nothing has none of the parts backbone, mapper .*; give an earlier"),
    ],
)
def test_checkpoints_to_start_from(
    chain: World, refused: Refused, tmp_path: Path, argument: str, given: str, message: str
) -> None:
    (tmp_path / "empty").mkdir()
    whole = chain.run("stage1") / "checkpoints" / "best.ckpt"
    (tmp_path / "damaged").write_bytes(whole.read_bytes()[:700])
    torch.save({"weights": torch.zeros(1)}, tmp_path / "foreign")
    torch.save({**checkpoint(chain.run("stage1")), "state_dict": {}}, tmp_path / "nothing")
    path = tmp_path / given if (tmp_path / given).exists() else given
    line = refused("fit", "--config", chain.config("stage1"), f"--{argument}", path)
    assert re.match(message, line)


def test_stage_of_another_size(chain: World, refused: Refused, tmp_path: Path) -> None:
    size = ["--model.init_args.backbone.init_args.embedding_dim", "8"]
    line = refused("fit", "--config", chain.config("control"), *size)
    assert re.match(r"model.init_args.backbone.embedding_dim: expected 16, got 8; \S*stage1 decides the backbone", line)
    shutil.copy(chain.run("stage1") / "checkpoints" / "best.ckpt", tmp_path / "alone.ckpt")
    line = refused("fit", "--config", chain.config("control"), "--init_from", tmp_path / "alone.ckpt", *size)
    assert re.match(r"init_from: backbone.tables.weight has shape \(70, 16\) in .*, but \(70, 8\) here; set the", line)


def test_init_from_and_ckpt_path(chain: World, refused: Refused) -> None:
    flags = ["--init_from", chain.run("stage1"), "--ckpt_path", "last"]
    line = refused("fit", "--config", chain.config("stage2"), *flags)
    assert re.match(r"init_from and ckpt_path: expected one of them, got both; --init_from starts", line)


def test_more_descriptors_than_words(chain: World, refused: Refused) -> None:
    number = "--model.init_args.mapper.init_args.num_descriptors"
    line = refused("fit", "--config", chain.config("stage2"), number, "500")
    assert re.match(r"num_descriptors: expected 1 to \d\d .*, got 500; choose fewer descriptors or a larger", line)


def test_faiss_that_cannot_be_imported(chain: World, refused: Refused, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    line = refused("fit", "--config", chain.config("stage2"), "--model.init_args.mapper.init_args.search", "faiss")
    assert re.match(r"faiss is needed for .*'faiss' but cannot be imported.*; install it with: pip install", line)


def put(keys: str, value: Any) -> Callable[[dict[str, Any]], None]:
    *path, last = keys.split(".")

    def change(config: dict[str, Any]) -> None:
        for key in path:
            config = config[key]
        config[last] = value

    return change


BACKBONE = "model.init_args.backbone"


@pytest.mark.parametrize(
    ("keys", "value", "message"),
    [
        ("trainner", {"max_epochs": 1}, r"trainner.max_epochs: no such option; correct its name"),
        ("early_stoping", 3, r"early_stoping: no such option; correct its name"),
        ("trainer.max_epoch", 1, r"trainer.max_epoch: no such option; correct its name"),
        ("model.init_args.l2_wieght", 1, r"model: expected a known option, got 'l2_wieght'; correct its name"),
        (
            BACKBONE,
            {"class_path": "GMF", "init_args": {"embeding_dim": 3}},
            r"model.backbone: expected a known option, got 'embeding_dim'; correct its name",
        ),
        (BACKBONE, {"class_path": "GFM"}, r"model.backbone: expected the name of a class, got 'GFM'; correct it"),
        (BACKBONE, "parts/nosuch.yaml", r"model.backbone: expected a file, but there is no parts/nosuch.yaml; correct"),
        ("model.class_path", "Pretrain", r"model: expected the name of a class, got 'Pretrain'; correct it"),
        ("data", {"reader": {"class_path": "No"}}, r"data.reader: expected the name of a class, got 'No'; correct it"),
        ("trainer.max_epochs", "many", r"trainer.max_epochs: expected int or null, got many; correct the value"),
        ("model.init_args.l2_weight", "x", r"model.l2_weight: expected float, got x; correct the value"),
        (
            "if_exists",
            "maybe",
            r"if_exists: expected Literal\['fail', 'skip', 'resume', 'overwrite'\], got maybe; correct",
        ),
        ("checkpoint.monitor", "val/recall@7", r".*could not find the monitored key .*'val/recall@20'"),
    ],
)
def test_configuration(world: World, refused: Refused, keys: str, value: Any, message: str) -> None:
    config = world.read("stage1")
    config.setdefault("checkpoint", {})
    put(keys, value)(config)
    assert re.match(message, refused("fit", "--config", world.write("mistaken", config)))


def test_file_that_is_no_yaml(world: World, refused: Refused) -> None:
    path = world.root / "broken.yaml"
    path.write_text("trainer: [1\n  b: {")
    assert re.match(r"config: expected YAML, but .* line 2, .*; correct the file", refused("fit", "--config", path))


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("data.batch_size=0", r"batch_size: expected at least 1, got 0; "),
        ("data.eval_batch_size=-1", r"eval_batch_size: expected at least 1, got -1; "),
        ("data.entities_per_step=-1", r"entities_per_step: expected at least 0, got -1; "),
        (f"{BACKBONE}.init_args.embedding_dim=0", r"embedding_dim: expected at least 1, got 0; "),
        ("data.batch_size=many", r"data.batch_size: expected int, got many; correct the value"),
        ("seed_everything=true", r"seed_everything: expected a number, got True; "),
        (
            "trainer.max_epochs=0",
            r"trainer: expected at least one epoch with its validation, got \d+ steps and none; raise",
        ),
        ("trainer.check_val_every_n_epoch=9", r"trainer: expected a validation within 4 epochs, .* got none; lower"),
        ("trainer.strategy=nosuch", r"trainer: You selected an invalid strategy name: `strategy='nosuch'`.*; correct"),
        ("early_stopping.monitor=nosuch", r"early_stopping.monitor: .*`nosuch` which is not available. .*`val/recall"),
        ("model.init_args.optimizer.init_args.lr=-1", r"model.init_args.optimizer: Invalid learning rate: -1.0; "),
        ("data.batchsize=3", r"--data.batchsize=3: no such option; correct its name"),
    ],
)
def test_values_on_the_command_line(world: World, refused: Refused, option: str, message: str) -> None:
    assert re.match(message, refused("fit", "--config", world.config("stage1"), f"--{option}"))


def test_run_folder_that_is_a_file(world: World, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("mine")
    assert fit(world.config("stage1"), "--run_dir", tmp_path / "file") == 2
    assert "run_dir: expected a folder, but" in capfd.readouterr().err
    assert (tmp_path / "file").read_text() == "mine"


def test_refused_command_leaves_a_finished_run_alone(chain: World, data: tuple[Path, list[str]]) -> None:
    (data[0] / "items.jsonl").unlink()
    before = {path: path.read_bytes() for path in chain.run("stage2").rglob("*") if path.is_file()}
    assert face("fit", "--config", chain.config("stage2"), *QUIET, "--if_exists", "overwrite", *data[1]) == 2
    assert {path: path.read_bytes() for path in chain.run("stage2").rglob("*") if path.is_file()} == before


def test_debug_shows_the_traceback() -> None:
    plain, debug = process("describe", "--run", "nosuch"), process("describe", "--run", "nosuch", "--debug")
    line = "run: nosuch has no descriptors.parquet; name the folder of a finished mapping or alignment run\n"
    assert plain.communicate(timeout=120) == ("", f"face: error: {line}")
    assert plain.returncode == 2
    errors = debug.communicate(timeout=120)[1]
    assert debug.returncode != 0
    assert errors.startswith("Traceback")
    assert errors.endswith(line)
