"""Runs by several processes: the curves of one process, its metrics to the last bit, and one set of files."""

import contextlib
import functools
import io
import itertools
import os
import pickle
import shutil
import socket
from pathlib import Path
from typing import Any

import lightning as L
import pyarrow.parquet as pq
import pytest
from scipy.sparse import coo_matrix

from face_lightning.cli import main
from face_lightning.data.readers import RLMRecFolder
from face_lightning.distributed import rank, world_size
from tests.chain.tiny import QUIET, World, checkpoint, face, process, result, rows
from tests.processes import together

STAGES = ("stage1", "stage2", "stage3")


def arguments(world_size: int, config: str, run: Path, *more: str) -> list[str]:
    """A fit with the global batch of the configuration, spread over processes."""
    sizes = [f"--data.batch_size={64 // world_size}", f"--data.entities_per_step={24 // world_size}"]
    many = [f"--trainer.devices={world_size}", "--trainer.strategy=ddp", "--run_dir", str(run)]
    return ["fit", "--config", config, *QUIET, *many, *sizes, *more]


def run_all(port: int, commands: list[list[str]]) -> list[tuple[int, str, str]]:
    """Exit codes and what was printed, by one of the processes that torchrun would have started."""
    variables = {"RANK": rank(), "LOCAL_RANK": rank(), "WORLD_SIZE": world_size(), "LOCAL_WORLD_SIZE": world_size()}
    variables |= {"GROUP_RANK": 0, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "TORCHELASTIC_RUN_ID": "tests"}
    os.environ.update({key: str(value) for key, value in variables.items()})
    results = []
    for command in commands:
        with contextlib.redirect_stdout(io.StringIO()) as output, contextlib.redirect_stderr(io.StringIO()) as errors:
            code = main(command)
        results.append((code, output.getvalue(), errors.getvalue()))
    return results


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def fit_together(count: int, *commands: list[str]) -> None:
    first, *others = together(count, run_all, free_port(), list(commands))
    for command, (code, output, errors) in zip(commands, first, strict=True):
        assert code == 0, errors
        assert "Warning" not in errors
        starts = "stage1" not in command[2] and "--ckpt_path" not in command
        lines = [line for line in output.splitlines() if ": resumed with " not in line]
        assert len(lines) == (2 if starts else 1), output
    for code, output, _ in itertools.chain(*others):
        assert (code, output) == (0, ""), "what one process says, the others need not repeat"


@pytest.fixture(scope="module")
def pair(chain: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with a run of every stage by two processes."""
    folder = tmp_path_factory.mktemp("pair")
    fit_together(2, *(arguments(2, chain.config(stage), folder / stage) for stage in STAGES))
    return folder


def assert_same_curves(run: Path, alone: Path) -> None:
    assert len(rows(run)) == len(rows(alone))
    for came, expected in zip(rows(run), rows(alone), strict=True):
        expected["seconds"] = came["seconds"]
        assert came == pytest.approx(expected, rel=5e-4, abs=1e-5)  # some products are rounded to bfloat16


def assert_same_metrics(run: Path, config: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One process gives the test metrics of many on their best checkpoint, to the last bit."""
    tested: list[Any] = []
    method = L.Trainer.test
    with monkeypatch.context() as patch:

        @functools.wraps(method)  # whose signature the command reads
        def watched(*args: Any, **kwargs: Any) -> None:
            tested.append(method(*args, **kwargs))

        patch.setattr(L.Trainer, "test", watched)
        assert face("test", "--config", config, "--run_dir", run, *QUIET) == 0
    ((metrics,),) = tested
    expected = result(run)["metrics"]
    assert {key: expected[key] for key in metrics} == metrics
    assert len(metrics) >= 6


@pytest.mark.parametrize("stage", STAGES)
def test_two_processes_train_as_one(chain: World, pair: Path, stage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert_same_curves(pair / stage, chain.run(stage))
    assert_same_metrics(pair / stage, chain.config(stage), monkeypatch)


@pytest.mark.parametrize("stage", STAGES)
def test_two_processes_leave_one_set_of_files(chain: World, pair: Path, stage: str) -> None:
    def files(run: Path) -> set[str]:
        names = {str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()}
        others = {"predictions.parquet"}  # of another command, which other tests run
        return {"events" if "tfevents" in name else name for name in names} - others

    assert files(pair / stage) == files(chain.run(stage))
    assert checkpoint(pair / stage)["state_dict"].keys() == checkpoint(chain.run(stage))["state_dict"].keys()
    users = pq.read_table(pair / stage / "test_users.parquet").to_pydict()["user_id"]
    assert users == pq.read_table(chain.run(stage) / "test_users.parquet").to_pydict()["user_id"]
    if stage != "stage1":
        words = pq.read_table(pair / stage / "descriptors.parquet").to_pylist()
        assert words == pq.read_table(chain.run(stage) / "descriptors.parquet").to_pylist()


@pytest.mark.slow
@pytest.mark.parametrize(("count", "batch"), [(3, 48), (4, 64)])
def test_more_processes_train_as_one(
    chain: World, tmp_path: Path, count: int, batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    each = f"--data.batch_size={batch // count}"
    runs = {stage: (tmp_path / stage, tmp_path / f"{stage}-alone") for stage in STAGES}
    fit_together(count, *(arguments(count, chain.config(stage), run, each) for stage, (run, _) in runs.items()))
    for stage, (run, alone) in runs.items():
        sizes = [f"--data.batch_size={batch}", "--data.entities_per_step=24", "--run_dir", alone]
        assert face("fit", "--config", chain.config(stage), *QUIET, *sizes) == 0
        assert_same_curves(run, alone)
        assert_same_metrics(run, chain.config(stage), monkeypatch)


@pytest.mark.slow
def test_one_validation_user_on_two_processes(chain: World, tmp_path: Path) -> None:
    """One process has nothing to validate."""
    shutil.copytree(chain.root / "data", tmp_path / "data")
    matrix = RLMRecFolder(tmp_path / "data").read().interactions.valid.tocoo()
    only = matrix.row == matrix.row[0]
    matrix = coo_matrix((matrix.data[only], (matrix.row[only], matrix.col[only])), shape=matrix.shape)
    (tmp_path / "data" / "val_mat.pkl").write_bytes(pickle.dumps(matrix))
    root = ["--data.reader.init_args.root", str(tmp_path / "data")]
    fit_together(2, arguments(2, chain.config("stage1"), tmp_path / "two", *root))
    assert face("fit", "--config", chain.config("stage1"), *QUIET, "--run_dir", tmp_path / "one", *root) == 0
    assert_same_curves(tmp_path / "two", tmp_path / "one")
    assert result(tmp_path / "two")["best"] == pytest.approx(result(tmp_path / "one")["best"])


@pytest.mark.slow
def test_lightning_starts_the_other_processes_itself(chain: World, tmp_path: Path) -> None:
    child = process(*arguments(2, chain.config("stage1"), tmp_path), threads=1)
    errors = child.communicate(timeout=240)[1]
    assert child.returncode == 0, errors
    assert_same_curves(tmp_path, chain.run("stage1"))
