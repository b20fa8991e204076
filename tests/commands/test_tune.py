"""`face tune`: trials on validation, the best configuration, continued searches, and errors."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from face_lightning.commands.trial import Configuration, space_of
from face_lightning.commands.tune import Search
from face_lightning.search_space import Between, OneOf
from face_lightning.stages import LeastSquaresStage, Stage
from tests.chain.tiny import QUIET, World, face, fit, result, rows, write_world


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    world = write_world(tmp_path_factory.mktemp("world"))
    content = world.read("stage1")
    content["model"] = {"class_path": "LeastSquaresStage", "init_args": {"backbone": "parts/backbone.yaml"}}
    content |= {"run_dir": str(world.run("als")), "trainer": {"max_epochs": 3}}
    world.write("als", content)
    return world


def tune(config: str, *arguments: str | Path) -> int:
    return face("tune", "--config", config, *QUIET, *arguments)


def test_the_best_configuration_reproduces_its_trial(
    world: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Stage, "test_step", None)  # the test split is never read
    assert tune(world.config("als"), "--trials", "3") == 0
    monkeypatch.undo()
    out = capsys.readouterr().out
    assert not world.run("als").exists()
    folder = world.root / "runs" / "als-tune"
    assert re.search(r"trial 0: 0\.\d+ \(best 0\.\d+\) in \d+ s, 3 epochs: the configuration as it is\n", out)
    assert out.count("\ntrial ") == 2
    assert f"face-fit --config {folder / 'best.yaml'}" in out
    assert fit(str(folder / "best.yaml")) == 0
    best = max(row["val/recall@20"] for row in rows(world.run("als")))
    assert result(world.run("als"))["best"]["score"] == best
    assert f"best on validation: {best:.4f}" in out


def options_of(search: Search) -> list[dict[str, Any]]:
    return [{name.rpartition(".")[2]: value for name, value in trial.params.items()} for trial in search.trials]


def test_refinements_of_least_squares_start_from_the_best_setting(world: World, tmp_path: Path) -> None:
    own = ["--model.init_args.regularization=2", "--model.init_args.unobserved_weight=0.01", "--trainer.max_epochs=2"]
    with Search(["--config", world.config("als"), *QUIET, *own], tmp_path, Console(quiet=True)) as search:
        search.run(2, minutes=10)
        best_epoch = search.trials[0].user_attrs["best_epoch"]
        assert options_of(search)[1] == {
            "unobserved_weight": 0.01,
            "regularization": pytest.approx(2 * 1.1 ** (best_epoch - 1)),
            "regularization_growth": 1.0,
            "popularity_discount": 0.0,
        }


def test_suggestions_of_the_best_trial_are_tried_next_and_once(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = {"unobserved_weight": 0.01, "regularization_growth": 1.0, "popularity_discount": 0.1}
    suggestions = [{**shared, "regularization": value} for value in (2.0, 3.0, 99.0)]  # the last is out of range
    monkeypatch.setattr(LeastSquaresStage, "refinements", lambda _: suggestions)
    command = ["--config", world.config("als"), *QUIET, "--trainer.max_epochs=1"]
    with Search(command, tmp_path, Console(quiet=True)) as search:
        search.run(2, minutes=10)
    with Search(command, tmp_path, Console(quiet=True)) as search:
        search.run(4, minutes=10)
        _, *others, drawn = options_of(search)
    assert others == suggestions[:2]
    assert drawn["regularization"] not in (2.0, 3.0)


def test_a_search_is_continued_and_rejects_another_configuration(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [world.config("stage1"), "--out", tmp_path, "--model.init_args.ranking_loss=SampledSoftmax"]
    assert tune(*command, "--trials", "1") == 0
    first = yaml.safe_load((tmp_path / "best.yaml").read_text())
    assert first["model"]["init_args"]["optimizer"]["init_args"]["lr"] == 0.01  # the given configuration
    assert tune(*command, "--trials", "2") == 0
    out = capsys.readouterr().out
    assert "continued after 1 trials" in out
    assert [int(number) for number in re.findall(r"^trial (\d+): ", out, re.MULTILINE)] == [0, 1]
    assert tune(*command, "--trials", "2", "--trainer.max_epochs=1") == 2
    assert "holds that of another configuration" in capsys.readouterr().err


def test_words_are_tuned_by_retrieval(world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fit(world.config("stage1")) == 0
    assert tune(world.config("stage2"), "--trials", "1", "--out", tmp_path, "--trainer.max_epochs=1") == 0
    assert "words/retrieval_items@10 and words/retrieval_users@10" in (tmp_path / "best.yaml").read_text()


def test_time_limit_and_mistakes(world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert tune(world.config("als"), "--minutes", "1e-4", "--out", tmp_path) == 0
    out = capsys.readouterr().out
    assert "1 epochs, cut: time is up" in out
    assert out.count("trial 0: ") == 1
    assert "trial 1: " not in out
    assert tune(world.config("als"), "--trials", "0") == 2
    assert tune(str(tmp_path / "none.yaml")) == 2


def test_search_spaces_contain_arguments_of_their_class(world: World) -> None:
    def space(*arguments: str) -> dict[str, Any]:
        found = space_of(Configuration(["--config", world.config("stage1"), *arguments]).options)
        return {option.replace("model.init_args.", "").replace("init_args.", ""): of for option, of in found.items()}

    shared = {"optimizer.lr": Between(3e-4, 1e-2), "l2_weight": Between(1e-5, 1.0)}
    assert space() == shared
    found = space("--model.backbone=SimGCL", "--model.ranking_loss=CosineContrastive", "--model.text=ContrastiveText")
    assert found.keys() == shared.keys() | {
        *("backbone.num_layers", "backbone.contrast_weight", "backbone.temperature", "backbone.noise_scale"),
        *("ranking_loss.margin", "ranking_loss.negative_weight", "text.weight"),
    }
    assert found["backbone.num_layers"] == OneOf((1, 2, 3))
    assert space_of(Configuration(["--config", world.config("stage3")]).options).keys() == {
        f"model.init_args.{option}"
        for option in ("optimizer.init_args.lr", "l2_weight", "backbone_gradient", "grounding.init_args.weight")
    }
