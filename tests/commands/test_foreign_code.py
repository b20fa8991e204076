"""The trust policy for classes in configurations and checkpoints applies to every command and method."""

import importlib
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from jsonargparse import _common
from lightning import LightningModule

import face_lightning.stages
from face_lightning.errors import ConfigurationError
from face_lightning.stages import PretrainingStage
from face_lightning.text.encoders import TextEncoder
from face_lightning.trust import may_download, trust_downloads
from tests.chain.tiny import World, face, fit, write_world
from tests.processes import alone

NAMED = "expected a class that a configuration may name"


@pytest.fixture
def marker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that exists as soon as the module `foreign` is imported."""
    path = tmp_path / "ran"
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "foreign.py").write_text(f"open({str(path)!r}, 'w')\nclass Reader: ...\n")
    monkeypatch.syspath_prepend(tmp_path / "code")
    monkeypatch.delitem(sys.modules, "foreign", raising=False)
    return path


def write(path: Path, content: Any) -> Path:
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.mark.parametrize("command", ["summarize", "baselines", "fit"])
def test_foreign_classes_in_a_data_section_are_rejected(
    marker: Path, tmp_path: Path, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write(tmp_path / "data.yaml", {"reader": {"class_path": "foreign.Reader"}})
    more = {"summarize": ["--out", tmp_path / "out.jsonl"], "fit": ["--run_dir", tmp_path / "run"]}.get(command, [])
    model = ["--model", "PretrainingStage", "--model.backbone", "GMF"] if command == "fit" else []
    assert face(command, "--data", data, *model, *more) == 2
    assert f"data.reader: {NAMED}" in capsys.readouterr().err
    assert not marker.exists()
    assert {path.name for path in tmp_path.iterdir()} == {"code", "data.yaml"}


def test_typed_flag_is_needed_and_lasts_for_one_command(marker: Path, tmp_path: Path) -> None:
    data = write(tmp_path / "data.yaml", {"reader": {"class_path": "foreign.Reader"}})
    assert face("summarize", "--allow-code", "--data", data, "--out", tmp_path / "out.jsonl") == 2  # no reader, but run
    assert marker.exists()
    marker.unlink()
    sys.modules.pop("foreign")
    assert face("summarize", "--data", data, "--out", tmp_path / "out.jsonl") == 2
    assert not marker.exists()


SETS: list[tuple[dict[str, Any], str]] = [
    (
        {"variants": {"full": {"stage1": {"allow-code": True}}}},
        "variants: 'full' expected options of .*'allow-code'",
    ),
    ({"variants": {"full": {"stage1": {"run_dir": "/elsewhere"}}}}, "variants: 'full' expected .*, got 'run_dir'"),
    ({"variants": {"full": {"stage1": {"config": "http://x"}}}}, "variants: 'full' expected .*, got 'config'"),
    ({"chain": {"../../elsewhere": {"config": "c.yaml"}}}, "chain: expected names of .*, got '../../elsewhere'"),
    ({"variants": {"full": {"stage1": {"trainer.max_epochs": "--allow-code"}}}}, "trainer.max_epochs: expected int"),
    ({"variants": {"full": {"stage1": {"data.reader": "foreign.Reader"}}}}, f"data.reader: {NAMED}"),
]


@pytest.mark.parametrize(("changes", "message"), SETS, ids=[str(case[0]) for case in SETS])
def test_sets_of_variants(
    marker: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, Any], message: str
) -> None:
    config = {"model": {"class_path": "PretrainingStage", "init_args": {"backbone": {"class_path": "GMF"}}}}
    config["data"] = {"reader": {"class_path": "RLMRecFolder", "init_args": {"root": str(tmp_path / "none")}}}
    write(tmp_path / "c.yaml", config)
    content = {"chain": {"stage1": {"config": "c.yaml"}}, "reference": "full", "variants": {"full": {}}} | changes
    path = write(tmp_path / "set.yaml", content)
    assert face("ablate", "--set", path, "--seeds", "0", "--runs", tmp_path / "runs") == 2
    line = capsys.readouterr().err
    assert re.search(message, line), line
    assert not marker.exists()
    assert not (tmp_path / "runs").exists()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """The small data set with a finished stage 1, and a stage 2 whose configuration names a model of the hub."""
    world = write_world(tmp_path_factory.mktemp("world"))
    assert fit(world.config("stage1"), "--trainer.max_epochs", "1") == 0
    words = world.read("parts/words")
    words["init_args"]["encoder"]["init_args"]["model"] = "someone/model"
    world.write("parts/words", words)
    return world


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ([], r"got 'someone/model', which would be downloaded from the model hub; add --allow-download if you trust"),
        (["--allow-download"], r"model: 'someone/model' cannot be loaded \("),
        (["--model.init_args.words.init_args.encoder.init_args.model=someone/model"], r"model: .* cannot be loaded \("),
    ],
)
def test_models_are_downloaded_if_the_user_names_or_allows_them(
    world: World, tmp_path: Path, capfd: pytest.CaptureFixture[str], typed: list[str], message: str
) -> None:
    """As tests set HF_HUB_OFFLINE, an allowed download also fails, but with another message than a rejected one."""
    assert fit(world.config("stage2"), "--run_dir", tmp_path / "run", *typed) == 2
    line = capfd.readouterr().err.splitlines()[-1]
    assert re.search(message, line), line
    assert not (tmp_path / "run").exists()
    assert not may_download("someone/model")


def test_other_commands_and_python_download_no_model_by_default(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ConfigurationError, match="model: expected a folder or a model on this machine, got 'a/b'"):
        TextEncoder("a/b").encode(["text"])
    assert face("vocab", "build", "--model", "someone/model", "--out", tmp_path / "out") == 2
    assert "cannot be downloaded from the model hub" in capsys.readouterr().err
    assert not may_download("someone/model")


def test_names_that_may_be_downloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("face_lightning.trust._Downloads.typed", ("--config", "runs/a/b/x.yaml", "--model={m: c/d}"))
    assert [may_download(model) for model in ("a/b", "c/d", "c", "d", "x.yaml")] == [False, True, False, False, False]
    trust_downloads("a/b")
    assert may_download("a/b")
    assert not may_download("e/f")
    monkeypatch.setattr("face_lightning.trust._Downloads.everything", False)
    trust_downloads()
    assert may_download("e/f")


def load_all(paths: list[str], code: str) -> list[str]:
    """Load checkpoints in every way; returns the outcomes."""
    sys.path.insert(0, code)
    _common.parsing_settings["import_path_verdicts"] = {}
    importlib.reload(face_lightning.stages)  # as in a process that has imported no command
    verdicts = []
    for load in (PretrainingStage.load_from_checkpoint, LightningModule.load_from_checkpoint):
        for path in paths:
            try:
                load(path, weights_only=True)
            except Exception as error:
                refused = any(sign in str(error) for sign in ("not allowed", "allowlist", "already imported"))
                verdicts.append(f"{refused} {error}")
            else:
                verdicts.append(f"loaded {path}")
    return verdicts


def test_hyper_parameters_build_no_foreign_class(marker: Path, tmp_path: Path) -> None:
    """A class, a callable, a class within a callable, and the class of the stage, loaded in both ways."""
    foreign = {"class_path": "foreign.Reader"}
    cyclic = {"base_lr": 0.1, "max_lr": 0.2, "scale_fn": foreign}
    common = {"_class_path": "face_lightning.stages.PretrainingStage", "num_users": 3, "num_items": 4}
    common |= {"backbone": {"class_path": "face_lightning.backbones.GMF", "init_args": {"embedding_dim": 4}}}
    common["_instantiator"] = "lightning.pytorch.cli.instantiate_module"
    crafted: list[dict[str, Any]] = [
        {"backbone": foreign},
        {"optimizer": "foreign.Reader"},
        {"scheduler": {"class_path": "torch.optim.lr_scheduler.CyclicLR", "init_args": cyclic}},
        {"_instantiator": "foreign.Reader"},
        {"_class_path": "foreign.Reader"},
    ]
    paths = []
    for number, changes in enumerate([{}, *crafted]):
        content = {"state_dict": {}, "hyper_parameters": common | changes, "pytorch-lightning_version": "2.6.6"}
        paths.append(str(tmp_path / f"{number}.ckpt"))
        torch.save(content | {"face_stage": "pretrain", "loops": {}, "epoch": 0, "global_step": 0}, paths[-1])
    verdicts = alone(load_all, paths, str(tmp_path / "code"))
    assert not marker.exists()
    assert len(verdicts) == 2 * len(paths)
    of_the_stage, of_lightning = verdicts[: len(paths)], verdicts[len(paths) :]
    # The stage's method builds nothing; Lightning's builds trusted classes, and then finds no weights.
    assert all(line.startswith("False load_from_checkpoint: expected backbone=") for line in of_the_stage), verdicts
    assert of_lightning[0].startswith("False Error(s) in loading state_dict"), verdicts
    assert all(line.startswith("True") for line in of_lightning[1:]), verdicts
