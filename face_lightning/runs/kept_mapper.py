"""The mapper of a finished run, rebuilt from the run folder without a text encoder or data."""

from pathlib import Path
from typing import Any

import yaml

from face_lightning.errors import CheckpointError
from face_lightning.mapping.mapper import TokenMapper
from face_lightning.runs.checkpoint_reading import load_checkpoint
from face_lightning.runs.folder import current_run
from face_lightning.runs.kept_codebook import CODEBOOK
from face_lightning.text.vocabulary import Codebook, load_codebook


def keeps_mapper(run_dir: Path) -> bool:
    """Whether a finished run has a mapper, and its vocabulary is saved with it."""
    run_dir = current_run(run_dir)
    return (run_dir / "descriptors.parquet").is_file() and (run_dir / CODEBOOK).is_file()


def read_mapper(run_dir: Path, embedding_dim: int) -> tuple[TokenMapper, Codebook]:
    """Load the mapper of a run's best epoch, in evaluation mode, and its vocabulary.

    Args:
        run_dir: Folder of a finished mapping or alignment run.
        embedding_dim: D of the run's embeddings.

    Raises:
        CheckpointError: If the run has no mapper, or its vocabulary is not saved with it.
    """
    run_dir = current_run(run_dir)
    checkpoint = load_checkpoint(run_dir / "checkpoints" / "best.ckpt", "run")
    prefix = "mapper."
    state = {key[len(prefix) :]: value for key, value in checkpoint["state_dict"].items() if key.startswith(prefix)}
    if not state:
        raise CheckpointError(
            f"run: expected a run with words, but the one in {run_dir} is of stage '{checkpoint['face_stage']}'; take "
            "a mapping or alignment run"
        )
    if not (run_dir / CODEBOOK).is_file():
        raise CheckpointError(
            f"run: expected a run with its vocabulary, but {run_dir} has no {CODEBOOK}; train it again with this "
            "version"
        )
    codebook, _ = load_codebook(run_dir / CODEBOOK)
    mapper = TokenMapper(codebook.token_embeddings, embedding_dim, **_arguments(run_dir))
    mapper.distinguish(codebook.lemmas)
    mapper.load_state_dict(state)
    return mapper.eval(), codebook


def _arguments(run_dir: Path) -> dict[str, Any]:
    """Arguments of the mapper in the run's configuration."""
    config = yaml.safe_load((run_dir / "config.yaml").read_text())
    section = config["model"]["init_args"].get("mapper") or {}
    return dict(section.get("init_args") or {})
