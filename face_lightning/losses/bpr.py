"""BPR loss: rank an observed item above one sampled negative."""

from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from face_lightning.losses.ranking_loss import PairwiseLoss


class BPR(PairwiseLoss):
    """Bayesian personalised ranking: mean of `-log sigmoid(s+ - s-)`.

    Reference:
        Rendle et al., "BPR: Bayesian Personalized Ranking from Implicit Feedback", UAI 2009.
    """

    name: ClassVar[str] = "bpr"

    def compare(self, positive_scores: Tensor, negative_scores: Tensor) -> Tensor:
        """See `PairwiseLoss`."""
        return F.softplus(negative_scores - positive_scores).mean()
