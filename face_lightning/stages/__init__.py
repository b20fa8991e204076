"""The training stages as LightningModules."""

from face_lightning.parallel.column_strategy import ColumnParallelStrategy
from face_lightning.stages.alignment import AlignmentStage
from face_lightning.stages.base import Stage
from face_lightning.stages.fusion import FusionStage
from face_lightning.stages.least_squares import LeastSquaresStage
from face_lightning.stages.mapping import MappingStage
from face_lightning.stages.pretraining import PretrainingStage
from face_lightning.trust import trust_no_code

__all__ = [
    "AlignmentStage",
    "ColumnParallelStrategy",
    "FusionStage",
    "LeastSquaresStage",
    "MappingStage",
    "PretrainingStage",
    "Stage",
]

trust_no_code()  # load_from_checkpoint instantiates classes that the checkpoint's hyper-parameters name
