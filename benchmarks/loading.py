"""The stage of a finished run, with its data and texts."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

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
