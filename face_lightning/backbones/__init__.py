"""Collaborative-filtering backbones, one file each; importing all modules lets YAML name their classes."""

from importlib import import_module
from pkgutil import iter_modules

from face_lightning.backbones.alpharec import AlphaRec
from face_lightning.backbones.backbone import Backbone
from face_lightning.backbones.gmf import GMF
from face_lightning.backbones.lightgcl import LightGCL
from face_lightning.backbones.lightgcn import LightGCN
from face_lightning.backbones.simgcl import SimGCL
from face_lightning.backbones.xsimgcl import XSimGCL

__all__ = ["GMF", "AlphaRec", "Backbone", "LightGCL", "LightGCN", "SimGCL", "XSimGCL"]

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")
