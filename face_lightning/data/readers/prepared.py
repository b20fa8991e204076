"""Prepared folders, as `face data import` writes them."""

from pathlib import Path

from face_lightning.data.prepared import PreparedData, read_prepared
from face_lightning.data.profiles import Dataset
from face_lightning.data.readers.base import Reader
from face_lightning.data.readers.records import write_profiles


class PreparedFolder(Reader):
    """Reads a folder that `face data import --out FOLDER` wrote.

    Args:
        root: The folder.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)

    def read(self) -> Dataset:
        """Read interactions and, where metadata came with them, texts.

        Raises:
            DataError: If a file is missing, or is not what was written.
        """
        return as_dataset(read_prepared(self.root))


def as_dataset(data: PreparedData) -> Dataset:
    """Interactions with the texts that templates make of the records; none where there are no records.

    Users' texts are made of their training items and of what is known of them; a written "profile" of a
    user comes before.
    """
    users, items = data.user_records, data.item_records
    if users is None and items is None:
        return Dataset(data.interactions)
    profiles = write_profiles(
        data.interactions, items if items is not None else [{}] * data.interactions.num_items, data.domain, users
    )
    return Dataset(data.interactions, profiles)
