"""Ranking, contrastive and text losses; importing all modules lets YAML name their classes."""

from importlib import import_module
from pkgutil import iter_modules

from face_lightning.losses.alignment_loss import AlignmentLoss, InfoNCEAlignment
from face_lightning.losses.bilateral_softmax import BilateralSoftmax
from face_lightning.losses.bpr import BPR
from face_lightning.losses.contrastive_text import ContrastiveText
from face_lightning.losses.cosine_contrastive import CosineContrastive
from face_lightning.losses.direct_au import DirectAU
from face_lightning.losses.generative_text import GenerativeText
from face_lightning.losses.ranking_loss import PairwiseLoss, RankingLoss
from face_lightning.losses.sampled_softmax import SampledSoftmax
from face_lightning.losses.text_regularizer import TextRegularizer
from face_lightning.losses.weighted_squares import WeightedSquares

__all__ = [
    "BPR",
    "AlignmentLoss",
    "BilateralSoftmax",
    "ContrastiveText",
    "CosineContrastive",
    "DirectAU",
    "GenerativeText",
    "InfoNCEAlignment",
    "PairwiseLoss",
    "RankingLoss",
    "SampledSoftmax",
    "TextRegularizer",
    "WeightedSquares",
]

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")
