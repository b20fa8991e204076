"""Readers of data sets; imported together so that a configuration can name them by class alone."""

from face_lightning.data.readers.base import Reader
from face_lightning.data.readers.files import InteractionFile
from face_lightning.data.readers.movielens import MovieLens100K
from face_lightning.data.readers.prepared import PreparedFolder
from face_lightning.data.readers.rlmrec import RLMRecFolder

__all__ = ["InteractionFile", "MovieLens100K", "PreparedFolder", "RLMRecFolder", "Reader"]
