"""Evaluation of finished runs, folders that hold a run, help, and what starting the command costs."""

import functools
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import lightning as L
import pyarrow.parquet as pq
import pytest
import torch
import yaml

from face_lightning import __version__
from face_lightning.cli import fit as face_fit
from face_lightning.cli import main
from face_lightning.data.pickles import read_matrix
from tests.chain.tiny import NUM_ITEMS, NUM_USERS, QUIET, ROOT, World, face, fit, result, rows

RUN_FILES = {"checkpoints", "config.yaml", "environment.json", "metrics.jsonl", "result.json", "test_users.parquet"}


@pytest.fixture
def evaluated(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Runs a command of evaluation and gives what the Trainer returned."""
    returned: list[Any] = []

    def watch(command: str) -> None:
        method = getattr(L.Trainer, command)

        @functools.wraps(method)  # whose signature the command reads
        def watched(*args: Any, **kwargs: Any) -> Any:
            returned.append(method(*args, **kwargs))
            return returned[-1]

        monkeypatch.setattr(L.Trainer, command, watched)

    def run(*arguments: str | Path) -> Any:
        watch(str(arguments[0]))
        assert face(*arguments, *QUIET) == 0
        return returned.pop()

    return run


@pytest.mark.parametrize("stage", ["stage1", "stage2", "stage3"])
@pytest.mark.parametrize("size", ["16", "7"])
def test_test_gives_the_numbers_of_the_fit(chain: World, evaluated: Callable[..., Any], stage: str, size: str) -> None:
    (metrics,) = evaluated("test", "--config", chain.config(stage), "--data.eval_batch_size", size)
    expected = {key: value for key, value in result(chain.run(stage))["metrics"].items() if key != "last_epoch"}
    assert metrics.keys() == expected.keys()
    assert metrics == (expected if size == "16" else pytest.approx(expected, abs=1e-6))  # 16 as in the fit


@pytest.mark.parametrize("size", ["16", "7"])
def test_validate_gives_the_best_row(chain: World, evaluated: Callable[..., Any], size: str) -> None:
    (metrics,) = evaluated("validate", "--config", chain.config("stage1"), "--data.eval_batch_size", size)
    best = max(rows(chain.run("stage1")), key=lambda row: row["val/recall@20"])
    assert metrics == pytest.approx({key: value for key, value in best.items() if key.startswith("val/")}, abs=1e-6)


def test_last_checkpoint_can_be_evaluated_too(chain: World, evaluated: Callable[..., Any]) -> None:
    (metrics,) = evaluated("validate", "--config", chain.config("stage3"), "--ckpt_path", "last")
    last = rows(chain.run("stage3"))[-1]
    assert metrics == pytest.approx({key: last[key] for key in metrics}, abs=1e-6)


def test_predict_ranks_what_a_user_has_not_seen(chain: World, evaluated: Callable[..., Any]) -> None:
    batches = evaluated("predict", "--config", chain.config("stage1"))
    users, items = (torch.cat(parts) for parts in zip(*batches, strict=True))
    assert users.tolist() == list(range(NUM_USERS))
    assert items.shape == (NUM_USERS, 20)
    assert all(len(set(row)) == 20 for row in items.tolist())
    assert 0 <= int(items.min()) <= int(items.max()) < NUM_ITEMS
    train = read_matrix(chain.root / "data" / "trn_mat.pkl").toarray() > 0
    assert not train[users.unsqueeze(1).numpy(), items.numpy()].any()


def test_predictions_are_left_under_original_ids(chain: World, evaluated: Callable[..., Any]) -> None:
    ((users, items), *_) = evaluated("predict", "--config", chain.config("stage3"))
    table = pq.read_table(chain.run("stage3") / "predictions.parquet").to_pylist()
    assert [row["user_id"] for row in table] == [f"u{user}" for user in range(NUM_USERS)]
    assert table[0] == {"user_id": f"u{users[0]}", "item_ids": [f"i{item}" for item in items[0]]}


def test_evaluation_writes_nothing(chain: World, evaluated: Callable[..., Any]) -> None:
    before = {path: path.stat().st_mtime_ns for path in chain.root.rglob("*")}
    evaluated("test", "--config", chain.config("stage2"))
    assert {path: path.stat().st_mtime_ns for path in chain.root.rglob("*")} == before


def test_folder_that_holds_a_run(chain: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    shutil.copytree(chain.run("control"), run)
    mine = [run / name for name in ("notes.txt", "mine.yaml", "mine.json", "mine.parquet")]
    for path in mine:
        path.write_text("mine")
    config = [chain.config("control"), "--run_dir", run]
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}

    assert fit(*config) == 2
    assert "expected a new folder" in capsys.readouterr().err
    assert fit(*config, "--if_exists", "skip") == 0
    assert "finished with the same configuration, skipped" in capsys.readouterr().out
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before

    assert fit(*config, "--if_exists", "skip", "--trainer.max_epochs", "1") == 0  # another configuration
    assert result(run)["epochs"] == len(rows(run)) == 1
    assert fit(*config, "--if_exists", "overwrite") == 0
    assert result(run)["metrics"] == result(chain.run("control"))["metrics"]
    assert len(rows(run)) == 2
    assert len(list(run.glob("events.out.tfevents.*"))) <= 2  # one of the training, one of the test
    assert all(path.read_text() == "mine" for path in mine)
    names = {path.name for path in run.iterdir() if not path.name.startswith("events")}
    assert names >= RUN_FILES
    assert not list(run.rglob("*.tmp"))


def test_skip_repeats_a_run_whose_start_has_changed(
    chain: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = [chain.config("control"), "--run_dir", tmp_path, "--if_exists", "skip"]
    assert fit(*config) == 0
    assert fit(*config, "--init_from", chain.run("stage1") / "checkpoints" / "last.ckpt") == 0
    assert "skipped" not in capsys.readouterr().out
    assert fit(*config) == 0
    (tmp_path / "result.json").write_text("{")  # as a crash of the disk leaves it
    assert fit(*config) == 0
    assert "skipped" not in capsys.readouterr().out
    assert fit(*config) == 0
    assert "skipped" in capsys.readouterr().out


def test_describe_tells_words_of_a_run(chain: World, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert face("describe", "--run", chain.run("stage3"), "--items", "i7", "--users", "u3", "--json") == 0
    item, user = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert (item["kind"], item["id"], item["label"]) == ("item", "i7", "Film 7")
    assert (user["kind"], user["id"]) == ("user", "u3")
    assert len(item["words"]) == len(user["words"]) == 4


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_help_names_every_command(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert face(*arguments) == 0
    shown = capsys.readouterr().out
    for command in ("fit", "validate", "test", "predict", "demo", "describe", "data"):
        assert re.search(rf"\b{command}\b", shown)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert face("--version") == 0
    assert capsys.readouterr().out.strip() == __version__


def test_help_of_fit_names_the_options(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        face("fit", "--help")
    assert stopped.value.code == 0
    shown = capsys.readouterr().out
    for option in ("--config", "--run_dir", "--init_from", "--if_exists", "--ckpt_path", "--data.batch_size"):
        assert option in shown


def test_face_fit_is_face_fit(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    shown = []
    for program, arguments in ((face_fit, []), (main, ["fit"])):
        with pytest.raises(SystemExit) as stopped:
            program([*arguments, "--config", world.config("stage1"), "--print_config"])
        assert stopped.value.code == 0
        shown.append(yaml.safe_load(capsys.readouterr().out))
    assert shown[0] == shown[1]
    assert shown[0]["trainer"]["max_epochs"] == 4


SESSION = """
import sys
from face_lightning.cli import main
config, run = sys.argv[1:]
start = ["--config", config, "--trainer.enable_progress_bar=false", "--trainer.accelerator=cpu", "--run_dir", run]
assert main(["fit", *start, "--trainer.max_epochs=2"]) == 0
assert main(["fit", *start, "--ckpt_path=last"]) == 0
assert main(["test", *start]) == 0
assert main(["test", *start, "--data.batch_size=0"]) == 2
print([name for name in ("transformers.modeling_utils", "sentence_transformers", "faiss") if name in sys.modules])
"""


def test_only_results_and_mistakes_are_printed_and_stage1_needs_no_encoder(world: World, tmp_path: Path) -> None:
    command = [sys.executable, "-c", SESSION, world.config("stage1"), str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, cwd=ROOT)
    assert done.stderr == "face: error: batch_size: expected at least 1, got 0; omit it for the default\n"
    assert done.returncode == 0
    resumed = r"\S*run: resumed with trainer.max_epochs: 2 -> 4\n"
    printed = (
        r"\S*run: 2 epochs in \d+ s, test/recall@20 0\.\d{4}\n"
        + resumed
        + r"\S*run: 4 epochs in .*\n\W*Test metric [^\[]*\[\]\n"
    )
    assert re.fullmatch(printed, done.stdout)


def test_start_is_light() -> None:
    code = "import sys; from face_lightning.cli import main; main(['--help']); main(['describe', '--run', 'nosuch'])"
    heavy = ("torch", "lightning", "transformers", "sentence_transformers", "faiss")
    code += f"; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, cwd=ROOT)
    assert done.stdout.endswith("[]\n")
    assert done.stderr.startswith("face: error: run: nosuch has no descriptors.parquet")


def test_console_scripts_lead_here() -> None:
    scripts = {script.name: script for script in entry_points(group="console_scripts", module="face_lightning.cli")}
    if not scripts:
        pytest.skip("the package is not installed beside this interpreter")
    assert (scripts["face"].load(), scripts["face-fit"].load()) == (main, face_fit)
    done = subprocess.run([sys.executable, "-m", "face_lightning.cli", "nosuch"], capture_output=True, cwd=ROOT)
    assert done.returncode == 2


def test_command_line_beats_the_file_wherever_it_stands(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        face("fit", "--data.batch_size", "7", "--config", world.config("stage1"), "--print_config")
    assert yaml.safe_load(capsys.readouterr().out)["data"]["batch_size"] == 7
    with pytest.raises(SystemExit):
        face("fit", "--data.batch_size=7", f"--config={world.config('stage1')}", "--print_config")
    assert yaml.safe_load(capsys.readouterr().out)["data"]["batch_size"] == 7


def test_fast_dev_run_leaves_nothing(world: World, tmp_path: Path) -> None:
    assert fit(world.config("stage1"), "--run_dir", tmp_path / "run", "--trainer.fast_dev_run", "true") == 0
    assert not list(tmp_path.iterdir())


def test_a_learning_rate_that_would_rise_again_is_reported(chain: World, tmp_path: Path) -> None:
    scheduler = "--model.init_args.scheduler"
    cosine = scheduler, "torch.optim.lr_scheduler.CosineAnnealingLR", f"{scheduler}.init_args.T_max", "1"
    with pytest.warns(UserWarning, match="T_max 1 epochs.*max_epochs 2;"):
        assert fit(chain.config("stage1"), "--run_dir", tmp_path / "run", "--trainer.max_epochs", "2", *cosine) == 0
    assert len(rows(tmp_path / "run")) == 2, "a warning, not an error"
