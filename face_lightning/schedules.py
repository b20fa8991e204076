"""Learning rate schedules."""

from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, LRScheduler


def schedule(optimizer: Optimizer, scheduler: LRScheduler | None, warmup_steps: int) -> list[dict[str, Any]]:
    """Lightning's configuration of a scheduler that is stepped per epoch, and of a linear warm-up over steps.

    Args:
        optimizer: Optimizer whose learning rates change.
        scheduler: Schedule over epochs; None for a constant learning rate.
        warmup_steps: Number of steps over which the learning rates rise linearly to the schedule's; 0 for no warm-up.
    """
    entries: list[dict[str, Any]] = []
    if scheduler is not None:
        entries.append({"scheduler": scheduler, "interval": "epoch"})
    if warmup_steps:
        warmup = LinearLR(optimizer, 1 / warmup_steps, total_iters=warmup_steps - 1)
        entries.append({"scheduler": warmup, "interval": "step"})
    return entries


def cosine_restart_warning(scheduler: object, epochs: int) -> str | None:
    """Warning that a cosine schedule ends before the training and raises the learning rate again; None if not."""
    if not isinstance(scheduler, CosineAnnealingLR) or scheduler.T_max >= epochs:
        return None
    return (
        f"scheduler: the cosine ends after T_max {scheduler.T_max} epochs, and the learning rate rises again "
        f"for the rest of trainer.max_epochs {epochs}; set --model.init_args.scheduler.init_args.T_max {epochs}"
    )
