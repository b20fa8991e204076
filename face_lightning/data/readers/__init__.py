"""Readers of data sets; imported together so that a configuration can name them by class alone."""

from face_lightning.data.readers.base import Reader

__all__ = ["Reader"]
