"""Collaborative-filtering backbones. A new one is one file here, imported below."""

from face_lightning.backbones.base import Backbone
from face_lightning.backbones.gmf import GMF
from face_lightning.backbones.lightgcn import LightGCN
from face_lightning.backbones.popularity import Popularity

__all__ = ["GMF", "Backbone", "LightGCN", "Popularity"]
