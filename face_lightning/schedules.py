"""Learning-rate schedules beside the length of the training."""

from torch.optim.lr_scheduler import CosineAnnealingLR


def told_of_rise(scheduler: object, epochs: int) -> str | None:
    """What to tell the user where a `scheduler` stepped once an epoch raises the learning rate again before the end."""
    if not isinstance(scheduler, CosineAnnealingLR) or scheduler.T_max >= epochs:
        return None
    return (
        f"scheduler: its cosine ends after T_max {scheduler.T_max} epochs, and the learning rate rises again "
        f"for the rest of trainer.max_epochs {epochs}; set --model.init_args.scheduler.init_args.T_max {epochs}"
    )
