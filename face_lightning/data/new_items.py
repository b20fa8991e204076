"""Reader of texts of new items, which were not in the training data, from a JSONL file."""

import json
from pathlib import Path

from face_lightning.data.metadata import TAG_FIELDS
from face_lightning.data.profiles import NewItems
from face_lightning.errors import DataError
from face_lightning.text.summaries import TemplateWriter


def read_new_items(path: Path, domain: str = "item") -> NewItems:
    """Read texts and names of items by their original ids.

    Args:
        path: JSONL file of objects with `item_id` and either `text` or fields for the template: title, tags, genres,
            categories, profile and others of `TemplateWriter`.
        domain: Kind of items, which selects the template.

    Raises:
        DataError: If the file is missing, a line is malformed or repeated, or an item has no text.
    """
    if not path.is_file():
        raise DataError(f"new_items: expected a JSONL file, got {path}; correct the path")
    writer = TemplateWriter(domain)
    texts: dict[str, str] = {}
    labels: dict[str, str] = {}
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
            name = str(record["item_id"])
            tags = [str(tag) for field in TAG_FIELDS for tag in record.get(field) or ()]
            text = record.get("text") or writer.write("item", {**record, "tags": list(dict.fromkeys(tags))})
            if name in texts or not text:
                raise ValueError(f"item {name} {'is repeated' if name in texts else 'has no text'}")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(
                f"new_items: expected a JSON object with a new item_id and a text in line {number} of {path}, got "
                f"{' '.join(str(error).split()):.99}; correct the line"
            ) from error
        texts[name], labels[name] = str(text), str(record.get("title") or name)
    return NewItems(texts, labels)
