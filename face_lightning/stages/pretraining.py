"""Stage 1: pretrain a backbone on the interaction graph."""

from typing import ClassVar

from torch import Tensor

from face_lightning.stages.base import Stage
from face_lightning.types import TrainingBatch


class PretrainingStage(Stage):
    """The backbone's own losses and nothing else.

    Started from an earlier run with the learning rate and epochs of stage 3, it is the fine-tune-only
    control: what stage 3 would reach without words.
    """

    name: ClassVar[str] = "pretraining"

    def losses(self, batch: TrainingBatch) -> dict[str, Tensor]:
        """`bpr`, `l2` and the backbone's auxiliary terms."""
        return self.recommendation_losses(batch)[0]
