"""Baselines without gradient descent, evaluated in the same way as the stages."""

from face_lightning.baselines.baseline import Baseline
from face_lightning.baselines.ease import EASE
from face_lightning.baselines.item_knn import ItemKNN
from face_lightning.baselines.popularity import Popularity

__all__ = ["EASE", "Baseline", "ItemKNN", "Popularity"]
