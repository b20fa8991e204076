"""What every reader of a data set is."""

from abc import ABC, abstractmethod

from face_lightning.data.profiles import Dataset


class Reader(ABC):
    """Reads one data set. Arguments of `__init__` say where it lies and how it is filtered and split."""

    @abstractmethod
    def read(self) -> Dataset:
        """Read interactions, and texts where there are any.

        Raises:
            DataError: If files are missing or damaged, or do not fit together.
        """
