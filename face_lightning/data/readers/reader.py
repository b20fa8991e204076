"""Base class of readers of data sets."""

from abc import ABC, abstractmethod

from face_lightning.data.profiles import Dataset


class Reader(ABC):
    """Reads one data set; the arguments of `__init__` define its files, filters and splits."""

    @abstractmethod
    def read(self) -> Dataset:
        """Read interactions, and texts if there are any.

        Raises:
            DataError: If files are missing, damaged or inconsistent.
        """
