"""Metadata of items from a JSONL file, and template texts written from it."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from face_lightning.data.interactions import Interactions
from face_lightning.data.metadata import TAG_FIELDS
from face_lightning.data.plain_values import is_missing, names_in, parsed, whole_number, without_markup, year_in
from face_lightning.data.profiles import Facts, NewItems, Profiles
from face_lightning.data.readers.taste import find_taste, most_common
from face_lightning.errors import DataError
from face_lightning.text.summaries import TemplateWriter, short_title

Record = Mapping[str, Any]
# Fields of users that `gather_facts` derives from their training items; all others come from metadata.
DERIVED_USER_FIELDS = frozenset({"favourites", "titles", "city", "authors"})
_NAMED_ITEMS = 4  # per template text of a user
_TYPICAL_ITEMS = 12  # per prompt for a language model


def read_records(path: Path, num_items: int) -> tuple[Record, ...]:
    """Read one record per item from a file of JSON objects, one per line, with the column number as `item_id`.

    Args:
        path: JSONL file; items that are not in it get an empty record.
        num_items: Number of items I.

    Raises:
        DataError: If the file is missing, a line is malformed, or an item has two lines.
    """
    if not path.is_file():
        raise DataError(f"{path}: expected a JSONL file of items, got no file; check item_metadata")
    records: list[Record] = [{} for _ in range(num_items)]
    lines = path.read_bytes().splitlines()
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
            item = record["item_id"]
            if type(item) is not int or not 0 <= item < num_items:
                raise ValueError(f"item_id is {item!r}")
            if records[item]:
                raise ValueError(f"item_id {item} is repeated")
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"{path}, line {number}: expected a JSON object with a new item_id below {num_items}, "
                f"got: {' '.join(str(error).split())}; correct the line"
            ) from error
        records[item] = record
    return tuple(records)


def write_profiles(
    interactions: Interactions,
    records: Sequence[Record],
    domain: str,
    user_facts: Sequence[Record] | None = None,
) -> Profiles:
    """Write texts of items from their records, and of users from the records of their training items.

    Args:
        interactions: Interactions, of which only the training split is used.
        records: One per item, with any of the fields of items in `TemplateWriter`; genres, tags and categories are
            merged.
        domain: Kind of items.
        user_facts: Further fields of every user, such as the age; none if omitted.
    """
    writer = TemplateWriter(domain)
    facts = gather_facts(interactions, records, user_facts)
    titles = [str(fields["title"]) for fields in facts.items]
    return Profiles(
        user_texts=tuple(writer.write("user", fields) for fields in facts.users),
        item_texts=tuple(writer.write("item", fields) for fields in facts.items),
        user_labels=tuple(interactions.user_ids.tolist()),
        item_labels=tuple(title or label for title, label in zip(titles, interactions.item_ids.tolist(), strict=True)),
        domain=domain,
        facts=facts,
    )


def write_new_items(records: Mapping[str, Record], domain: str) -> NewItems:
    """Write texts of items without interactions; items without a text are skipped.

    Args:
        records: One per item by original id, see `write_profiles`; a field `text` replaces the template's text.
        domain: Kind of items.
    """
    writer = TemplateWriter(domain)
    texts: dict[str, str] = {}
    labels: dict[str, str] = {}
    for name, record in records.items():
        title = _text(record, "title") or _text(record, "name")
        text = _text(record, "text") or writer.write("item", _item_fields(record, title, _tags(record)))
        if text:
            texts[name], labels[name] = text, title or name
    return NewItems(texts, labels)


def gather_facts(
    interactions: Interactions, records: Sequence[Record], user_facts: Sequence[Record] | None = None
) -> Facts:
    """Collect fields of items from their records, and of users from the records of their training items.

    Args:
        interactions: Interactions, of which only the training split is used.
        records: One per item, see `write_profiles`.
        user_facts: Further fields of every user.
    """
    tags = [_tags(record) for record in records]
    titles = [_text(record, "title") or _text(record, "name") for record in records]
    nameable = np.array([bool(title) for title in titles], dtype=bool)
    taste = find_taste(interactions.train, tags, nameable, num_items=_TYPICAL_ITEMS)
    cities, authors = (
        most_common(interactions.train, [_text(record, field) for record in records], count)
        for field, count in (("city", 1), ("author", 2))
    )
    users: list[Record] = []
    for user in range(interactions.num_users):
        fields: dict[str, object] = {
            "favourites": taste.favourites[user],
            "titles": [short_title(titles[item]) for item in taste.items[user][:_NAMED_ITEMS]],
            "city": " ".join(cities[user]),
            "authors": authors[user],
        }
        users.append(fields | dict(user_facts[user] if user_facts else {}))
    items = [_item_fields(record, title, row) for record, title, row in zip(records, titles, tags, strict=True)]
    return Facts(tuple(users), tuple(items), taste.items)


def _item_fields(record: Record, title: str, tags: list[str]) -> dict[str, object]:
    """Return the fields of an item under the names that templates use."""
    years = (_text(record, "year"), _text(record, "release_date"))
    year = next(filter(None, map(year_in, years)), years[0])
    profile = _text(record, "profile") or _text(record, "description")
    studio = _text(record, "developer").split(",")[0]
    record = {name: _text(record, name) if isinstance(value, str) else value for name, value in record.items()}
    return {**record, "title": title, "tags": tags, "year": year, "developer": studio, "profile": profile}


def _tags(record: Record) -> list[str]:
    """Return tags, genres and categories in the order of the record, deduplicated regardless of case."""
    found: dict[str, str] = {}
    for field in TAG_FIELDS:
        values = parsed(record.get(field))
        for name in names_in(values) if isinstance(values, list | tuple | dict) else []:
            found.setdefault(name.casefold(), name)
    return list(found.values())


def _text(record: Record, field: str) -> str:
    """Return a field as text without markup, white space collapsed; "" if it is missing."""
    value = record.get(field)
    if isinstance(value, list | dict):
        return ", ".join(names_in(value))
    value = value if field in ("title", "name") else whole_number(value)  # there is a game called 64.0
    return "" if is_missing(value) else " ".join(without_markup(str(value)).split())
