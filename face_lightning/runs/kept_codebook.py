"""The vocabulary saved with a run, so that later stages and commands need neither word lists nor lexicons."""

from collections.abc import MutableMapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from face_lightning.runs.folder import current_run
from face_lightning.text.vocabulary import save_codebook

if TYPE_CHECKING:
    from face_lightning.stages.describing import DescribingStage  # imports Lightning, which reading a run does not need

CODEBOOK = "codebook.safetensors"


def keep_codebook(stage: "DescribingStage", run_dir: Path) -> None:
    """Save the vocabulary of a stage in the folder of its run."""
    save_codebook(run_dir / CODEBOOK, stage.codebook, stage.codebook_report)


def find_codebook(source: Path) -> Path | None:
    """Find the vocabulary of a run, given its folder or a checkpoint in its `checkpoints`; None if it has none."""
    folder = current_run(source) if source.is_dir() else source.parent.parent
    path = folder / CODEBOOK
    return path if path.is_file() else None


def use_codebook(model: MutableMapping[str, Any], path: Path | None, override: bool) -> bool:
    """Set the codebook in the configuration of a stage to the one of a run.

    Args:
        model: Section `model` of the configuration, which is modified.
        path: Result of `find_codebook`.
        override: Whether to replace a codebook that the configuration names, as when the same stage is resumed.

    Returns:
        Whether the configuration names the run's codebook now.
    """
    words = model["init_args"].get("words") if model.get("init_args") else None
    if path is None or not words or not words.get("init_args"):
        return False
    settings = words["init_args"]
    if settings.get("codebook") not in (None, path, str(path)) and not override:
        return False
    settings["codebook"] = path
    return True
