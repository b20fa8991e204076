"""Files that extend others, references between options, and options inherited from the run that a stage starts from."""

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from face_lightning.cli import main
from face_lightning.commands.config_files import compose, contradiction, read_options, shipped
from face_lightning.errors import CheckpointError, ConfigurationError
from tests.chain.tiny import QUIET, World, fit, write_world


def write(folder: Path, **files: str) -> None:
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text)


def composed(*args: str) -> dict[str, Any]:
    command, flag, text, *_ = compose(args)
    assert (command, flag) == (args[0], "--config")
    content: dict[str, Any] = yaml.safe_load(text)
    return content


def test_bases_are_merged_in_order_and_the_file_itself_is_last(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    write(tmp_path, one="a: 1\nb: {c: 1, d: [1]}\n", two="base: sub/three.yaml\nb: {c: 2}\n")
    write(tmp_path, top="base: [one.yaml, two.yaml]\nb.e: 5\n")
    write(tmp_path / "sub", three="b: {d: [3]}\nf: 3\n")
    assert read_options(tmp_path / "top.yaml") == {"a": 1, "b": {"c": 2, "d": [3], "e": 5}, "f": 3}


def test_settings_of_another_class_are_dropped(tmp_path: Path) -> None:
    write(tmp_path, one="x: {class_path: A, init_args: {a: 1}}\n", same="base: one.yaml\nx.init_args.b: 2\n")
    write(tmp_path, other="base: one.yaml\nx: {class_path: B, init_args: {c: 3}}\n")
    assert read_options(tmp_path / "same.yaml")["x"] == {"class_path": "A", "init_args": {"a": 1, "b": 2}}
    assert read_options(tmp_path / "other.yaml")["x"] == {"class_path": "B", "init_args": {"c": 3}}


def test_a_path_of_a_file_is_replaced_by_its_content(tmp_path: Path) -> None:
    write(tmp_path, part="size: 1\nroot: data\n", top="data: part.yaml\ndata.size: 2\nother: nosuch.yaml\n")
    assert read_options(tmp_path / "top.yaml") == {"data": {"size": 2, "root": "data"}, "other": "nosuch.yaml"}
    assert read_options(tmp_path / "top.yaml", paths_are_files=False)["other"] == "nosuch.yaml"


def test_references_prefer_the_command_line(tmp_path: Path) -> None:
    reference = "${trainer.max_epochs}"
    top = f"trainer.max_epochs: 8\nT_max: {reference}\ntext: costs {reference}\nsteps:\n- 1\n- {reference}\n"
    write(tmp_path, top=top)
    file = ["--config", str(tmp_path / "top.yaml")]
    assert composed("fit", *file)["T_max"] == 8
    assert composed("fit", *file, "--trainer.max_epochs", "3")["T_max"] == 3
    assert composed("fit", "--trainer.max_epochs=4", *file)["T_max"] == 4
    assert composed("fit", *file)["steps"] == [1, 8]
    assert composed("fit", *file)["text"] == "costs ${trainer.max_epochs}"


def test_strings_stay_strings(tmp_path: Path) -> None:
    write(tmp_path, top="a: '1e3'\nb: 1e3\nc: '12'\nd: 'null'\ne: 2020-01-02\n")
    assert composed("fit", f"--config={tmp_path / 'top.yaml'}") == {
        "a": "1e3",
        "b": 1000.0,
        "c": "12",
        "d": "null",
        "e": "2020-01-02",
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "base: nosuch.yaml\n",
            r"base: \S*top.yaml builds on nosuch.yaml, but there is no file \S*nosuch.yaml; corr",
        ),
        ("base: top.yaml\n", r"base: expected files without a cycle, but \S*top.yaml builds on itself; remove that"),
        ("base: loop.yaml\n", r"base: expected files without a cycle, but \S*top.yaml builds on itself; remove that"),
        ("a: top.yaml\n", r"base: expected files without a cycle, but \S*top.yaml builds on itself; remove that"),
        ("base: secret.yaml\n", r"config: expected options by name in YAML, but \S*secret.yaml holds none; correct"),
        ("base: [1]\n", r"base: expected paths of files on this machine in \S*top.yaml, got 1; corr"),
        (
            "base: https://host/x.yaml\n",
            r"base: expected paths of files on this machine in .*, got https://host/x.yaml",
        ),
        ("base: s3://bucket/x.yaml\n", r"base: expected paths of files on this machine in .*, got s3://bucket/x.yaml"),
        (
            "b: ${trainer.max_epoch}\n",
            r"config: \$\{trainer.max_epoch\} refers to an option that is not given; correct",
        ),
    ],
)
def test_mistakes_are_reported_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, message: str
) -> None:
    write(tmp_path, top=text, loop="base: top.yaml\n", secret="root:hunter2:0\n")
    with pytest.raises(ConfigurationError, match=message):
        compose(["fit", "--config", str(tmp_path / "top.yaml")])
    assert main(["fit", "--config", str(tmp_path / "top.yaml")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "hunter2" not in error


def test_shipped_files_are_found_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    name = Path("configs/own/ials/stage1.yaml")
    assert read_options(shipped(name))["run_dir"] == "runs/own/stage1"
    name.parent.mkdir(parents=True)
    name.write_text("run_dir: mine\n")
    assert read_options(shipped(name))["run_dir"] == "mine", "a local file takes precedence"
    assert shipped(Path("configs/nosuch.yaml")) == Path("configs/nosuch.yaml")


def test_contradictions_of_backbones() -> None:
    gmf = {"class_path": "b.GMF", "init_args": {"embedding_dim": 8, "new": 1}}
    assert contradiction(gmf, {"class_path": "b.GMF", "init_args": {"embedding_dim": 8}}) is None
    assert contradiction(gmf, {"class_path": "b.GMF"}) is None
    named = "model.init_args.backbone"
    assert contradiction(gmf, {"class_path": "b.SGL"}) == f"{named}: expected SGL, got GMF"
    found = contradiction(gmf, {"class_path": "b.GMF", "init_args": {"embedding_dim": 4}})
    assert found == f"{named}.embedding_dim: expected 4, got 8"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """The small data set with a finished stage 1, and the configuration of a control that names no backbone."""
    world = write_world(tmp_path_factory.mktemp("world"))
    size = ["--model.init_args.backbone.init_args.embedding_dim", "12", "--trainer.max_epochs", "1"]
    assert fit(world.config("stage1"), *size) == 0
    control = world.read("control")
    del control["model"]["init_args"]["backbone"]
    world.write("bare", control)
    return world


def test_a_stage_inherits_the_backbone_of_the_run_that_it_starts_from(world: World, tmp_path: Path) -> None:
    short = ["--run_dir", tmp_path, "--trainer.max_epochs", "1"]
    assert fit(world.config("bare"), *short) == 0
    backbone = yaml.safe_load((tmp_path / "config.yaml").read_text())["model"]["init_args"]["backbone"]
    assert backbone == {"class_path": "face_lightning.backbones.GMF", "init_args": {"embedding_dim": 12}}
    assert main(["test", "--config", world.config("bare"), "--run_dir", str(tmp_path), *QUIET]) == 0
    more = ["--ckpt_path", "last", "--trainer.max_epochs", "2"]
    assert fit(world.config("bare"), "--run_dir", tmp_path, *more) == 0


def write_run(folder: Path, stage: str, arguments: dict[str, Any], **kept: Any) -> Path:
    """Write the configuration of a run, and a checkpoint of its best epoch."""
    backbone = {"class_path": "face_lightning.backbones.GMF", "init_args": {"embedding_dim": 12}}
    model = {"class_path": f"face_lightning.stages.{stage}", "init_args": {"backbone": backbone, **arguments}}
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump({"model": model}))
    content = {"state_dict": {}, "face_stage": "x", "epoch": 0, **kept}
    torch.save(content, folder / "checkpoints" / "best.ckpt")
    return folder


def test_a_stage_fine_tunes_with_the_loss_of_the_run_that_it_starts_from(tmp_path: Path) -> None:
    softmax = {"class_path": "face_lightning.losses.SampledSoftmax", "init_args": {"temperature": 0.3}}
    earlier = write_run(tmp_path / "stage2", "MappingStage", {"ranking_loss": softmax, "l2_weight": 0.3})
    write(
        tmp_path, stage3=f"init_from: {earlier}\nrun_dir: {tmp_path / 'run'}\nmodel: {{class_path: AlignmentStage}}\n"
    )
    command = ["fit", "--config", str(tmp_path / "stage3.yaml")]
    model = composed(*command)["model"]["init_args"]
    assert (model["ranking_loss"], model["l2_weight"]) == (softmax, 0.3)
    write(tmp_path, own="base: stage3.yaml\nmodel.init_args: {ranking_loss: {class_path: BPR}, l2_weight: 0.1}\n")
    model = composed("fit", "--config", str(tmp_path / "own.yaml"))["model"]["init_args"]
    assert (model["ranking_loss"], model["l2_weight"]) == ({"class_path": "BPR"}, 0.1)
    assert (
        "ranking_loss"
        not in composed("test", *command[1:], "--ckpt_path", str(earlier / "checkpoints/best.ckpt"))["model"][
            "init_args"
        ]
    ), "what only evaluates needs no loss"
    write_run(tmp_path / "run", "AlignmentStage", {"ranking_loss": {"class_path": "BPR"}, "l2_weight": 0.7})
    model = composed(*command, "--ckpt_path", "last")["model"]["init_args"]
    assert (model["ranking_loss"], model["l2_weight"]) == ({"class_path": "BPR"}, 0.7), "a resumed run keeps its own"


def test_after_least_squares_its_objective_is_the_loss(tmp_path: Path) -> None:
    given = {"unobserved_weight": None, "regularization": 2.0, "frequency_power": 0.5, "popularity_discount": 0.0}
    solved = {"unobserved_weight": 0.02, "regularization": 6.0, "popularity_discount": 0.1}
    arguments = {**given, "regularization_growth": 1.5}
    earlier = write_run(tmp_path / "stage1", "LeastSquaresStage", arguments, least_squares={"settings": solved})
    write(tmp_path, stage2=f"init_from: {earlier}\nmodel: {{class_path: MappingStage}}\n")
    model = composed("fit", "--config", str(tmp_path / "stage2.yaml"))["model"]["init_args"]
    assert model["l2_weight"] == 0
    assert model["ranking_loss"] == {"class_path": "WeightedSquares", "init_args": {**given, **solved}}


def test_least_squares_continues_with_the_best_settings_of_an_earlier_run(tmp_path: Path) -> None:
    solved = {"unobserved_weight": 0.02, "regularization": 6.0, "popularity_discount": 0.1}
    arguments = {"unobserved_weight": None, "regularization": 2.0, "regularization_growth": 1.5}
    earlier = write_run(tmp_path / "stage1", "LeastSquaresStage", arguments, least_squares={"settings": solved})
    write(tmp_path, again=f"init_from: {earlier}\nmodel: {{class_path: LeastSquaresStage}}\n")

    def settings(*options: str) -> dict[str, Any]:
        composed_model = composed("fit", "--config", str(tmp_path / "again.yaml"), *options)["model"]["init_args"]
        return {name: value for name, value in composed_model.items() if name != "backbone"}

    assert settings() == {**solved, "regularization": pytest.approx(0.7 * 6.0)}
    assert settings("--model.init_args.regularization_growth", "1.0") == solved
    write(
        tmp_path,
        again=f"init_from: {earlier}\nmodel: {{class_path: LeastSquaresStage, init_args: {{regularization: 3}}}}\n",
    )
    assert settings() == {**solved, "regularization": 3}
    bpr = write_run(tmp_path / "bpr", "PretrainingStage", {"ranking_loss": {"class_path": "BPR"}, "l2_weight": 0.7})
    write(tmp_path, again=f"init_from: {bpr}\nmodel: {{class_path: LeastSquaresStage}}\n")
    assert settings() == {}


def test_a_path_without_saved_settings_is_rejected(tmp_path: Path) -> None:
    earlier = write_run(tmp_path / "stage1", "LeastSquaresStage", {"regularization": 2.0, "regularization_growth": 1.5})
    write(tmp_path, stage2=f"init_from: {earlier}\nmodel: {{class_path: MappingStage}}\n")
    with pytest.raises(CheckpointError, match=r"init_from: expected a checkpoint that names its settings"):
        composed("fit", "--config", str(tmp_path / "stage2.yaml"))


@pytest.mark.parametrize(
    ("config", "options", "message"),
    [
        ("control", [], "model.init_args.backbone.embedding_dim: expected 12, got 16; {stage1} decides the backbone"),
        ("bare", ["--model.init_args.backbone", "LightGCN"], "model.init_args.backbone: expected GMF, got LightGCN;"),
        (
            "bare",
            ["--init_from", "{root}/nosuch"],
            "init_from: expected a run folder or a checkpoint, but {root}/no",
        ),
        (
            "bare",
            ["--init_from", "{root}/alone.ckpt"],
            "model.init_args.backbone: expected that of the run in {root}/alone.ckpt, whose config.yaml is missing;",
        ),
    ],
)
def test_backbones_that_do_not_fit_the_run(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str], config: str, options: list[str], message: str
) -> None:
    places = {"root": world.root, "stage1": world.run("stage1")}
    (world.root / "alone.ckpt").write_bytes((world.run("stage1") / "checkpoints" / "best.ckpt").read_bytes())
    given = [option.format(**places) for option in options]
    assert fit(world.config(config), "--run_dir", tmp_path / "run", *given) == 2
    line = capsys.readouterr().err
    assert line.startswith(f"face: error: {message.format(**places)}")
    assert line.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_a_checkpoint_without_a_run_starts_a_stage_whose_backbone_is_named(world: World, tmp_path: Path) -> None:
    (tmp_path / "alone.ckpt").write_bytes((world.run("stage1") / "checkpoints" / "best.ckpt").read_bytes())
    named = ["--model.init_args.backbone", "GMF", "--model.init_args.backbone.init_args.embedding_dim", "12"]
    start = ["--init_from", tmp_path / "alone.ckpt", "--run_dir", tmp_path / "run", "--trainer.max_epochs", "1"]
    assert fit(world.config("bare"), *start, *named) == 0
