"""Requests for summaries of users and items, and the use of summaries as texts of a data set."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from face_lightning.data.interactions import Interactions
from face_lightning.data.profiles import Dataset, Profiles
from face_lightning.errors import DataError
from face_lightning.files import atomic_path, check_regular
from face_lightning.text.writing.writer import Kind, Request, Summary

_TYPICAL_ITEM_FIELDS = ("title", "year", "author", "city", "tags", "profile")


def summary_requests(dataset: Dataset, kinds: Sequence[Kind] = ("item", "user")) -> list[Request]:
    """Build a request for every item and user.

    Users are described only by their training items, never by validation or test items.

    Args:
        dataset: Data with facts or, if there are none, texts.
        kinds: Kinds of entities, in this order.

    Raises:
        DataError: If the data set has no texts.
    """
    interactions, profiles = dataset.interactions, dataset.profiles
    if profiles is None:
        raise DataError(
            f"data.reader: expected titles, tags or descriptions, got none in {interactions.name}; give item metadata"
        )
    items = [_item_fields(profiles, interactions, item) for item in range(interactions.num_items)]
    requests: list[Request] = []
    for kind in kinds:
        if kind == "item":
            ids = interactions.item_ids.tolist()
            requests += [Request("item", name, fields) for name, fields in zip(ids, items, strict=True)]
        else:
            requests += [
                Request("user", str(interactions.user_ids[user]), _user_fields(profiles, interactions, items, user))
                for user in range(interactions.num_users)
            ]
    return requests


def with_summaries(dataset: Dataset, path: Path) -> Dataset:
    """Replace the reader's texts by those of a file of summaries; entities without a summary keep the reader's.

    Args:
        dataset: Data with profiles, or without.
        path: JSONL file of `write_summary_file`.

    Raises:
        DataError: If the file cannot be read, or has no entity of this data set.
    """
    interactions, profiles = dataset.interactions, dataset.profiles
    found = read_summary_file(path)
    if profiles is None:
        profiles = Profiles(
            user_texts=(None,) * interactions.num_users,
            item_texts=(None,) * interactions.num_items,
            user_labels=tuple(interactions.user_ids.tolist()),
            item_labels=tuple(interactions.item_ids.tolist()),
        )
    users, items = (
        tuple(found.get((kind, name)) or text for name, text in zip(ids.tolist(), texts, strict=True))
        for kind, ids, texts in (
            ("user", interactions.user_ids, profiles.user_texts),
            ("item", interactions.item_ids, profiles.item_texts),
        )
    )
    known = {("user", name) for name in interactions.user_ids.tolist()}
    known |= {("item", name) for name in interactions.item_ids.tolist()}
    if not known & found.keys():
        raise DataError(
            f"summaries: expected original ids of {interactions.name} in {path}, got none of {len(found)}; give the "
            "file that face summarize wrote for this data set"
        )
    # Precomputed vectors belong to the replaced texts.
    return replace(
        dataset,
        profiles=replace(profiles, user_texts=users, item_texts=items, user_vectors=None, item_vectors=None),
    )


def write_summary_file(path: Path, requests: Sequence[Request], summaries: Sequence[Summary]) -> None:
    """Write summaries as JSONL, one object per entity: kind, id, text, and the error if there is no text.

    Args:
        path: Target; replaced atomically.
        requests: The entities.
        summaries: Result of each request.
    """
    try:
        with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as file:
            for request, summary in zip(requests, summaries, strict=True):
                line = {"kind": request.kind, "id": request.id, "text": summary.text, "error": summary.error}
                file.write(json.dumps(line, ensure_ascii=False) + "\n")
    except OSError as error:
        raise DataError(f"out: cannot write {path} ({error.strerror}); make room, or give another --out") from error


def read_summary_file(path: Path) -> dict[tuple[str, str], str]:
    """Return texts by kind and original id; entities without a text are skipped.

    Raises:
        DataError: If the file cannot be read, or a line is not a summary.
    """
    check_regular("summaries", path, "give the file that face summarize wrote")
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"summaries: cannot read {path} ({type(error).__name__}); give the file that face summarize wrote"
        ) from error
    texts: dict[tuple[str, str], str] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            kind, name, text = _summary_line(line)
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise DataError(
                f"summaries: expected kind (user or item), id and text in {path}, line {number}, got {error!s:.80}; "
                "correct the line"
            ) from error
        if text is not None:
            texts[kind, name] = text
    return texts


def _summary_line(line: str) -> tuple[Literal["user", "item"], str, str | None]:
    """Parse kind, id and text of a line; raises ValueError, KeyError or TypeError if malformed."""
    entry = json.loads(line)
    kind, name, text = entry["kind"], entry["id"], entry["text"]
    if kind not in ("user", "item") or not isinstance(name, str) or not isinstance(text, str | None):
        raise ValueError(f"{entry!s:.60}")
    return kind, name, " ".join((text or "").split()) or None


def _item_fields(profiles: Profiles, interactions: Interactions, item: int) -> dict[str, Any]:
    """Return the facts of an item, and the reader's text if these do not describe it."""
    facts: Mapping[str, Any] = {} if profiles.facts is None else profiles.facts.items[item]
    fields = {name: value for name, value in facts.items() if value}
    label = profiles.item_labels[item]
    if "title" not in fields and label != str(interactions.item_ids[item]):
        fields["title"] = label
    if not fields.keys() & {"tags", "profile"} and profiles.item_texts[item]:
        fields["profile"] = profiles.item_texts[item]
    return fields


def _user_fields(
    profiles: Profiles, interactions: Interactions, items: Sequence[Mapping[str, Any]], user: int
) -> dict[str, Any]:
    """Return the facts of a user, and those of typical training items."""
    train = interactions.train
    if profiles.facts is None:
        fields: dict[str, Any] = {}
        chosen = [int(item) for item in train.indices[train.indptr[user] : train.indptr[user + 1]][:12]]
    else:
        fields, chosen = dict(profiles.facts.users[user]), list(profiles.facts.typical_items[user])
    fields["items"] = [
        {name: items[item][name] for name in _TYPICAL_ITEM_FIELDS if name in items[item]}
        for item in chosen
        if "title" in items[item]
    ]
    return fields
