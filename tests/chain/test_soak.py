"""Many runs in one process: neither memory nor open files grow, and nothing of a run is left."""

import gc
from functools import partial
from pathlib import Path

import lightning as L
import psutil
import pytest
from lightning.pytorch.loggers import TensorBoardLogger

from face_lightning.backbones import GMF
from face_lightning.data.datamodule import InteractionDataModule
from face_lightning.data.readers import RLMRecFolder
from face_lightning.runs.checkpoints import AtomicCheckpointIO, RunCheckpoint
from face_lightning.stages import PretrainingStage
from tests.chain.tiny import QUIET, World, face, fit

MAX_GROWTH_MIB = 24  # of a hundred cycles; allocators keep some
pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]


class Figures:
    """Memory, open files and threads of this process from time to time."""

    def __init__(self) -> None:
        self.rows: list[tuple[int, float, int, int]] = []

    def take(self, cycle: int) -> None:
        me = psutil.Process()
        gc.collect()
        self.rows.append((cycle, me.memory_info().rss / 2**20, me.num_fds(), me.num_threads()))

    def show(self, capsys: pytest.CaptureFixture[str]) -> None:
        with capsys.disabled():
            print("\ncycles  MiB  files  threads")
            for count, mib, files, threads in self.rows:
                print(f"{count:>6} {mib:>5.0f} {files:>5} {threads:>7}")


def test_cycles_of_fit_and_validate_leave_nothing_behind(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    figures = Figures()
    for cycle in range(120):
        data = InteractionDataModule(RLMRecFolder(world.root / "data"), 64, entities_per_step=0)
        stage = PretrainingStage(partial(GMF, embedding_dim=16), data.num_users, data.num_items)
        trainer = L.Trainer(
            max_epochs=1,
            accelerator="cpu",
            enable_progress_bar=False,
            enable_model_summary=False,
            logger=TensorBoardLogger(tmp_path, version=cycle),
            plugins=[AtomicCheckpointIO()],
            callbacks=[RunCheckpoint(dirpath=tmp_path / str(cycle), monitor="val/recall@20", mode="max")],
        )
        trainer.fit(stage, data)
        trainer.validate(stage, data, verbose=False)
        if cycle % 20 == 19:
            figures.take(cycle + 1)
    figures.show(capsys)
    first, last = figures.rows[0], figures.rows[-1]
    assert last[1] - first[1] < MAX_GROWTH_MIB
    assert last[2] <= first[2]
    assert last[3] <= first[3]


def test_commands_leave_neither_files_nor_trainers(
    chain: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Memory is not looked at: jsonargparse keeps about half a MiB of every parser, one of which a process needs."""
    figures = Figures()
    for cycle in range(30):
        stage = ("stage1", "stage2", "stage3")[cycle % 3]
        run = ["--run_dir", tmp_path / stage]
        assert fit(chain.config(stage), *run, "--trainer.max_epochs", "1", "--if_exists", "overwrite") == 0
        assert face("validate", "--config", chain.config(stage), *run, *QUIET) == 0
        if cycle % 10 == 9:
            figures.take(cycle + 1)
    figures.show(capsys)
    first, last = figures.rows[0], figures.rows[-1]
    assert last[2] <= first[2]
    assert last[3] <= first[3]
    alive = [found for found in gc.get_objects() if type(found) is L.Trainer]
    assert len(alive) <= 1
