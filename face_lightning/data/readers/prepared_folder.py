"""Prepared folders, as `face data import` writes them."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

from face_lightning.data.prepared import PreparedData, Record, read_prepared
from face_lightning.data.profiles import Dataset
from face_lightning.data.readers.reader import Reader
from face_lightning.data.readers.records import write_profiles

_OF_ITEMS = ("favourites", "titles", "authors", "items", "text")  # fields of users that training items give


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

    Users' texts are made of their training items and of what is known of them. A field `text` is taken as it is.
    """
    users = None if data.user_records is None else [_without(record, _OF_ITEMS) for record in data.user_records]
    items = data.item_records
    if users is None and items is None:
        return Dataset(data.interactions)
    profiles = write_profiles(
        data.interactions, items if items is not None else [{}] * data.interactions.num_items, data.domain, users
    )
    profiles = replace(
        profiles,
        user_texts=_written(data.user_records, profiles.user_texts),
        item_texts=_written(items, profiles.item_texts),
    )
    return Dataset(data.interactions, profiles)


def missing_texts(dataset: Dataset) -> dict[str, int]:
    """How many users and items have no text at all."""
    if dataset.profiles is None:
        return {"users": dataset.interactions.num_users, "items": dataset.interactions.num_items}
    texts = {"users": dataset.profiles.user_texts, "items": dataset.profiles.item_texts}
    return {kind: sum(text is None for text in column) for kind, column in texts.items()}


def _without(record: Record, names: Collection[str]) -> Record:
    return {name: value for name, value in record.items() if name not in names}


def _written(records: Sequence[Record] | None, texts: tuple[str | None, ...]) -> tuple[str | None, ...]:
    """Texts, with those that the records bring in their place."""
    if records is None:
        return texts
    brought = (" ".join(str(record.get("text") or "").split()) for record in records)
    return tuple(written or text for written, text in zip(brought, texts, strict=True))
