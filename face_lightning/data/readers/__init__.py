"""Readers of data sets; imported together so that a configuration can name them by class alone."""

from face_lightning.data.readers.interaction_file import InteractionFile
from face_lightning.data.readers.movielens_100k import MovieLens100K
from face_lightning.data.readers.prepared_folder import PreparedFolder
from face_lightning.data.readers.reader import Reader
from face_lightning.data.readers.rlmrec_folder import RLMRecFolder

__all__ = ["InteractionFile", "MovieLens100K", "PreparedFolder", "RLMRecFolder", "Reader"]
