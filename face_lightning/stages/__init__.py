"""The three stages as LightningModules."""

from face_lightning.column_parallel import ColumnParallelStrategy
from face_lightning.stages.alignment import AlignmentStage
from face_lightning.stages.base import Stage
from face_lightning.stages.mapping import MappingStage
from face_lightning.stages.pretraining import PretrainingStage

__all__ = ["AlignmentStage", "ColumnParallelStrategy", "MappingStage", "PretrainingStage", "Stage"]
