"""A small data set, and a run that must fail with a one-line error and write nothing."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.chain.tiny import World, fit, write_world
from tests.commands.hostile import TOUCHED, listing


@pytest.fixture(scope="package")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """The small data set with finished runs of stages 1 and 2."""
    world = write_world(tmp_path_factory.mktemp("world"))
    for stage in ("stage1", "stage2"):
        assert fit(world.config(stage), "--trainer.max_epochs", "1") == 0
    return world


@pytest.fixture
def line_of(world: World, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Iterator[Callable[..., str]]:
    """Run a fit that must fail; returns its one-line error."""

    def run(config: str | Path, *arguments: str | Path, run_dir: Path = tmp_path / "run") -> str:
        capfd.readouterr()
        before = listing(world.root), listing(tmp_path)
        assert fit(str(config), "--run_dir", run_dir, *arguments) == 2
        lines = [line for line in capfd.readouterr().err.splitlines() if not line.startswith("Batches")]
        (line,) = lines
        assert (listing(world.root), listing(tmp_path)) == before, "something was written"
        assert line.startswith("face: error: ")
        return line.removeprefix("face: error: ")

    yield run
    assert not TOUCHED.exists()
