"""Runs on data without validation or test pairs: they train, and their result notes the missing metrics."""

import lightning as L
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint

from face_lightning.data.interactions import Interactions
from face_lightning.errors import DataError

WITHOUT_VALIDATION = (
    "no validation: the data have no validation pairs, so the last epoch was kept, without early stopping"
)
WITHOUT_TEST = "no test: the data have no test pairs, or trainer.limit_test_batches is 0"


def require_pairs(interactions: Interactions, *splits: str) -> None:
    """Check that splits have pairs to evaluate on.

    Args:
        interactions: The data.
        splits: Names of the splits.

    Raises:
        DataError: If a split has no pairs.
    """
    for split in splits:
        if interactions.matrix(split).nnz == 0:
            raise DataError(
                f"data: expected {split} pairs to evaluate on, got none in {interactions.name}; split the data again, "
                "as with face data import FILE --ratios 3 1 1"
            )


def watch_nothing_unmeasured(trainer: L.Trainer, num_pairs: int) -> bool:
    """Without validation pairs, keep the last epoch and disable early stopping on validation metrics.

    Args:
        trainer: Trainer of the run, before it fits.
        num_pairs: Number of validation pairs.

    Returns:
        Whether a callback was changed.
    """
    if num_pairs:
        return False
    monitoring = [
        callback
        for callback in trainer.callbacks  # type: ignore[attr-defined]
        if isinstance(callback, EarlyStopping | ModelCheckpoint) and str(callback.monitor).startswith("val/")
    ]
    for callback in monitoring:
        if isinstance(callback, EarlyStopping):
            trainer.callbacks.remove(callback)  # type: ignore[attr-defined]
        else:
            callback.monitor = None
    return bool(monitoring)
