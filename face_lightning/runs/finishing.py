"""End of a training: test of the best checkpoint, and output files of the run."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import lightning as L
from lightning.pytorch.callbacks import WeightAveraging

from face_lightning.errors import ConfigurationError
from face_lightning.files import strict_json, write_atomically
from face_lightning.runs.checkpoints import RunCheckpoint
from face_lightning.runs.inference import write_embeddings
from face_lightning.runs.kept_items import keep_items
from face_lightning.runs.kept_meanings import keep_meanings
from face_lightning.runs.kept_regression import keep_regression
from face_lightning.runs.outputs import EntityIds, descriptors_of, embeddings_of, write_descriptors
from face_lightning.runs.projector import write_projector
from face_lightning.runs.recorder import gather_test_users, peak_mib, write_test_users
from face_lightning.stages import Stage
from face_lightning.stages.describing import DescribingStage


class TrainingData(EntityIds, Protocol):
    """Ids and identity of the training data, such as `Interactions`."""

    @property
    def name(self) -> str:
        """Name of the data set."""

    @property
    def fingerprint(self) -> str:
        """Digest of ids and interactions."""


def best_checkpoint(trainer: L.Trainer) -> RunCheckpoint:
    """Return the callback that holds the best checkpoint.

    Raises:
        ConfigurationError: If no epoch has been validated.
    """
    checkpoint = next(found for found in trainer.checkpoint_callbacks if isinstance(found, RunCheckpoint))
    if not checkpoint.best_model_path:
        raise ConfigurationError(
            f"trainer: expected at least one epoch with its validation, got {trainer.global_step} steps and "
            "none; raise trainer.max_epochs or trainer.max_steps, and resume with --ckpt_path last if it was saved"
        )
    return checkpoint


def evaluate_best(trainer: L.Trainer, stage: Stage, datamodule: L.LightningDataModule, best: str) -> dict[str, float]:
    """Test the best checkpoint once, and leave its final embeddings in the stage, even if there is no test split."""
    for callback in [found for found in trainer.callbacks if isinstance(found, WeightAveraging)]:  # type: ignore[attr-defined]
        # It would replace the averaged weights, which the checkpoint holds, by those of the last step.
        trainer.callbacks.remove(callback)  # type: ignore[attr-defined]
    results = trainer.test(stage, datamodule, ckpt_path=best, weights_only=True, verbose=False)
    metrics = dict(results[0]) if results else {}
    if not metrics:
        trainer.predict(stage, datamodule, ckpt_path=best, weights_only=True, return_predictions=False)
    return metrics


def write_outputs(
    stage: Stage,
    data: TrainingData,
    run_dir: Path,
    facts: Mapping[str, Any],
    notes: Sequence[str],
    new_items: tuple[Mapping[str, str], Mapping[str, str]] | None = None,
) -> None:
    """Write embeddings, test metrics of users, words and, at last, result.json; a collective operation.

    Args:
        stage: Stage with the weights and final embeddings of its best epoch.
        data: Training data of the stage.
        run_dir: Folder of the run.
        facts: Further entries of result.json, such as `metrics` of the test.
        notes: Remarks on the result for the reader, such as warnings.
        new_items: Texts and labels, by original id, of items without interactions that the run should recommend.
    """
    test_users, embeddings = gather_test_users(stage), embeddings_of(stage)
    descriptors = descriptors_of(stage) if isinstance(stage, DescribingStage) else None
    if not stage.trainer.is_global_zero:
        return
    write_embeddings(run_dir, embeddings, data.fingerprint)
    if test_users:
        write_test_users(test_users, data.user_ids, run_dir / "test_users.parquet")
    if isinstance(stage, DescribingStage) and descriptors is not None:
        write_descriptors(stage.space, descriptors, data, run_dir / "descriptors.parquet")
        keep_meanings(run_dir, stage.words.encoder)
        if new_items is not None:
            keep_items(run_dir, *new_items, stage.words.encoder)
        keep_regression(stage, embeddings, run_dir)
    write_projector(run_dir)
    result = {
        "stage": stage.name,
        "backbone": type(stage.backbone).__name__,
        "dataset": data.name,
        **facts,
        "peak_mib": peak_mib(),
        **({"notes": list(notes)} if notes else {}),
    }
    write_atomically(run_dir / "result.json", strict_json(result, indent=2) + "\n")
