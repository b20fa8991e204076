"""Reader of prepared folders, which `face data import` writes."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

from face_lightning.data.plain_values import without_markup
from face_lightning.data.prepared import PreparedData, Record, read_prepared
from face_lightning.data.profiles import Dataset
from face_lightning.data.readers.reader import Reader
from face_lightning.data.readers.records import write_new_items, write_profiles

# Fields of users that are derived from training items and must not come from metadata.
_DERIVED = ("favourites", "titles", "authors", "items", "text")


class PreparedFolder(Reader):
    """Reads a folder that `face data import --out FOLDER` wrote.

    Args:
        root: The folder.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)

    def read(self) -> Dataset:
        """Read interactions and, if there is metadata, texts.

        Raises:
            DataError: If a file is missing or differs from what was written.
        """
        return as_dataset(read_prepared(self.root))


def as_dataset(data: PreparedData) -> Dataset:
    """Combine interactions with template texts of the records; without records there are no texts.

    Users' texts are written from their training items and their own metadata. A field `text` replaces the template's
    text.
    """
    users = None if data.user_records is None else [_without(record, _DERIVED) for record in data.user_records]
    items = data.item_records
    if users is None and items is None:
        return Dataset(data.interactions)
    profiles = write_profiles(
        data.interactions, items if items is not None else [{}] * data.interactions.num_items, data.domain, users
    )
    profiles = replace(
        profiles,
        user_texts=_override_texts(data.user_records, profiles.user_texts),
        item_texts=_override_texts(items, profiles.item_texts),
    )
    new_items = write_new_items(data.new_item_records, data.domain) if data.new_item_records else None
    return Dataset(data.interactions, profiles, new_items)


def missing_texts(dataset: Dataset) -> dict[str, int]:
    """Return the numbers of users and items without a text."""
    if dataset.profiles is None:
        return {"users": dataset.interactions.num_users, "items": dataset.interactions.num_items}
    texts = {"users": dataset.profiles.user_texts, "items": dataset.profiles.item_texts}
    return {kind: sum(text is None for text in column) for kind, column in texts.items()}


def _without(record: Record, names: Collection[str]) -> Record:
    return {name: value for name, value in record.items() if name not in names}


def _override_texts(records: Sequence[Record] | None, texts: tuple[str | None, ...]) -> tuple[str | None, ...]:
    """Replace texts by the field `text` of records that have one."""
    if records is None:
        return texts
    given = (" ".join(without_markup(str(record.get("text") or "")).split()) for record in records)
    return tuple(own or text for own, text in zip(given, texts, strict=True))
