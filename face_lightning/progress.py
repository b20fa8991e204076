"""Progress of a Trainer within its epochs."""

import lightning as L


def batches_left(trainer: L.Trainer, batch_idx: int) -> bool:
    """Whether the epoch has batches after this one."""
    return not trainer.is_last_batch and batch_idx + 1 < trainer.num_training_batches


def ends_epoch(trainer: L.Trainer, batch_idx: int) -> bool:
    """Whether no batch follows this one in the epoch, because it is the last one or `max_steps` is reached."""
    return not batches_left(trainer, batch_idx) or trainer.global_step == trainer.max_steps


def validates(trainer: L.Trainer) -> bool:
    """Whether the current epoch ends with a validation."""
    return (trainer.current_epoch + 1) % (trainer.check_val_every_n_epoch or 1) == 0


def is_whole_epoch(trainer: L.Trainer) -> bool:
    """Whether the ending epoch has seen all its batches, and was not cut short by `max_steps` or `max_time`."""
    progress = trainer.fit_loop.epoch_loop.batch_progress
    return progress.is_last_batch or progress.current.ready >= trainer.num_training_batches
