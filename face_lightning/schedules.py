"""Learning rates over the length of a training."""

from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, LRScheduler


def schedule(optimizer: Optimizer, scheduler: LRScheduler | None, warmup_steps: int) -> list[dict[str, Any]]:
    """Lightning's entries for a scheduler stepped once an epoch, and for a linear warm-up over steps.

    Args:
        optimizer: Optimizer whose learning rates change.
        scheduler: Schedule over epochs; none if None.
        warmup_steps: Steps over which learning rates rise to where the schedule has them; 0 for none.
    """
    entries: list[dict[str, Any]] = []
    if scheduler is not None:
        entries.append({"scheduler": scheduler, "interval": "epoch"})
    if warmup_steps:
        warmup = LinearLR(optimizer, 1 / warmup_steps, total_iters=warmup_steps - 1)
        entries.append({"scheduler": warmup, "interval": "step"})
    return entries


def cosine_restart_warning(scheduler: object, epochs: int) -> str | None:
    """Warning where a cosine stepped once an epoch raises the learning rate again before the end; None elsewhere."""
    if not isinstance(scheduler, CosineAnnealingLR) or scheduler.T_max >= epochs:
        return None
    return (
        f"scheduler: its cosine ends after T_max {scheduler.T_max} epochs, and the learning rate rises again "
        f"for the rest of trainer.max_epochs {epochs}; set --model.init_args.scheduler.init_args.T_max {epochs}"
    )
