"""Readers of data sets, one file each; importing all modules lets YAML name their classes."""

from importlib import import_module
from pkgutil import iter_modules

from face_lightning.data.readers.interaction_file import InteractionFile
from face_lightning.data.readers.movielens_100k import MovieLens100K
from face_lightning.data.readers.prepared_folder import PreparedFolder
from face_lightning.data.readers.reader import Reader
from face_lightning.data.readers.rlmrec_folder import RLMRecFolder

__all__ = ["InteractionFile", "MovieLens100K", "PreparedFolder", "RLMRecFolder", "Reader"]

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")
