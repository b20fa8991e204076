"""The vocabulary that a run keeps, so that later stages and commands need neither word lists nor lexicons."""

from collections.abc import MutableMapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from face_lightning.runs.folder import current_run
from face_lightning.text.vocabulary import save_codebook

if TYPE_CHECKING:
    from face_lightning.stages.describing import DescribingStage  # with Lightning, which readers of a run do without

CODEBOOK = "codebook.safetensors"


def keep_codebook(stage: "DescribingStage", run_dir: Path) -> None:
    """Write a stage's vocabulary into the folder of its run."""
    save_codebook(run_dir / CODEBOOK, stage.codebook, stage.codebook_report)


def find_codebook(source: Path) -> Path | None:
    """Vocabulary of the run that a run folder, or a checkpoint in its `checkpoints`, belongs to; None without one."""
    folder = current_run(source) if source.is_dir() else source.parent.parent
    path = folder / CODEBOOK
    return path if path.is_file() else None


def use_codebook(model: MutableMapping[str, Any], path: Path | None, override: bool) -> bool:
    """Let the configuration of a stage read its vocabulary from a run.

    Args:
        model: Section `model` of the configuration.
        path: What `find_codebook` gave.
        override: Whether a codebook that the configuration names is replaced: where the same stage goes on.

    Returns:
        Whether it reads the run's vocabulary now.
    """
    words = model["init_args"].get("words") if model.get("init_args") else None
    if path is None or not words or not words.get("init_args"):
        return False
    settings = words["init_args"]
    if settings.get("codebook") not in (None, path, str(path)) and not override:
        return False
    settings["codebook"] = path
    return True
