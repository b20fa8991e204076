"""The stage of a finished run, with its data and texts."""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from face_lightning.commands.stage import FaceCLI
from face_lightning.data.datamodule import InteractionDataModule
from face_lightning.runs.checkpoint_reading import init_from
from face_lightning.words.space import build_word_space


class _Loaded(FaceCLI):
    """Instantiates the classes of a configuration without running a subcommand."""

    def _run_subcommand(self, subcommand: str) -> None:
        del subcommand


def load_run(run_dir: Path, extra: Sequence[str] = (), config: Path | None = None) -> tuple[Any, InteractionDataModule]:
    """Load the stage of a run, with the weights of its best epoch, its graph and texts, and its data module.

    Args:
        run_dir: Folder of a finished run of stage 2 or 3; of any stage where `config` is given.
        extra: Options that override its configuration.
        config: Configuration of a stage 2 or 3 with the backbone and data of the run; its own if None.
    """
    command = ["test", "--config", str(run_dir / "config.yaml"), "--run_dir", str(run_dir)]
    if config is not None:  # an untrained stage, whose folder is not created
        command = ["fit", "--config", str(config), "--init_from", str(run_dir), "--run_dir", str(run_dir / "next")]
    cli = _Loaded([*command, *extra])
    stage, datamodule = cli.model, cli.datamodule
    init_from(stage, run_dir)
    stage.graph = datamodule.graph
    stage.backbone.prepare(stage.graph)
    stage.space = build_word_space(stage.words, stage.codebook, datamodule.profiles)
    return stage, datamodule


def print_tables(description: str | None, measure: Callable[[Path, Sequence[str]], Table], width: int) -> None:
    """Print the table of each run that is given on the command line.

    Args:
        description: Description of the command.
        measure: Measures a run, with options that override its configuration.
        width: Width of the tables in characters.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN_DIR", help="folder of a finished run with words")
    parser.add_argument(
        "--set",
        nargs=2,
        action="append",
        default=[],
        metavar=("OPTION", "VALUE"),
        help="override the configuration of the runs, such as the path of their data",
    )
    arguments = parser.parse_args()
    extra = [text for option, value in arguments.set for text in (f"--{option}", value)]
    for run_dir in arguments.runs:
        Console(width=width).print(measure(run_dir, extra))
