"""Prepared folders: interactions and metadata as Parquet, and a manifest with their provenance."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from face_lightning.data.interactions import SPLITS, Interactions
from face_lightning.errors import ConfigurationError, DataError
from face_lightning.files import atomic_folder

MANIFEST = "manifest.json"
FORMAT = "face-lightning prepared 1"
_PAIRS, _NEW_ITEMS = "interactions.parquet", "new_items.parquet"
_SIDES = ("user", "item")
Record = Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class PreparedData:
    """Contents of a prepared folder.

    Attributes:
        interactions: Splits and original ids.
        user_records: Metadata of each user `(U,)`, empty records for users without metadata; None if no metadata were
            given.
        item_records: Likewise for items `(I,)`.
        new_item_records: Metadata of items without interactions by original id.
        domain: Kind of items.
        history: Provenance of the data as plain values: sources, steps, options, notices.
    """

    interactions: Interactions
    user_records: Sequence[Record] | None = None
    item_records: Sequence[Record] | None = None
    new_item_records: Mapping[str, Record] = field(default_factory=dict)
    domain: str = "item"
    history: Mapping[str, Any] = field(default_factory=dict)


def write_prepared(data: PreparedData, out: Path, overwrite: bool = False) -> None:
    """Write a folder atomically.

    Args:
        data: Data to write.
        out: Folder to create; its parents are created too.
        overwrite: Whether to replace a prepared folder.

    Raises:
        ConfigurationError: If the folder exists and may not be replaced.
        DataError: If the folder cannot be written.
    """
    check_target(out, overwrite)
    try:
        with atomic_folder(out) as folder:
            _write_files(data, folder)
    except OSError as error:
        reason = error.strerror or str(error)
        raise DataError(f"out: cannot write {out} ({reason}); make room, or give another --out") from error


def check_target(out: Path, overwrite: bool) -> None:
    """Check that a folder may be written.

    Raises:
        ConfigurationError: If the folder exists and may not be replaced.
    """
    if not out.exists() and not out.is_symlink():
        return
    if out.is_symlink():
        raise ConfigurationError(f"out: expected a folder, got the link {out}; give the folder that it points to")
    if out.is_dir() and not any(out.iterdir()):
        return
    own = _own_files(out)
    paths = sorted(out.iterdir()) if out.is_dir() else []
    others = [path.name for path in paths if path.name not in own or path.is_symlink() or not path.is_file()]
    if not own or others:
        named = f", such as {others[0]}" if own else ""
        raise ConfigurationError(
            f"out: expected a new folder, got {out} with other contents{named}; give another --out"
        )
    if not overwrite:
        raise ConfigurationError(f"out: expected a new folder, got {out} with prepared data; replace it with --force")


def _own_files(out: Path) -> set[str]:
    """Return the file names of a prepared folder; empty for any other folder."""
    try:
        read_manifest(out)
    except DataError:
        return set()
    return {MANIFEST, _PAIRS, _NEW_ITEMS, *(f"{side}s.parquet" for side in _SIDES)}


def read_manifest(root: Path) -> dict[str, Any]:
    """Return the manifest of a prepared folder.

    Raises:
        DataError: If it is missing or damaged.
    """
    path = root / MANIFEST
    if not path.is_file():
        raise DataError(
            f"root: expected a prepared folder, got one without {path}; create it with: face data import FILE --out "
            f"{root}"
        )
    with _translate_read_errors(path):
        manifest = json.loads(path.read_bytes())
        if manifest["format"] != FORMAT:
            raise ValueError(f"the format {manifest['format']!r:.60}")
        for name in ("files", "counts"):
            if not isinstance(manifest[name], dict):
                raise TypeError(f"{name} is not a mapping")
        for name in ("name", "domain"):
            if not isinstance(manifest[name], str):
                raise TypeError(f"{name} is not text")
        return dict(manifest)


def read_prepared(root: Path) -> PreparedData:
    """Read a folder that `write_prepared` wrote.

    Raises:
        DataError: If a file is missing or differs from what was written.
    """
    manifest = read_manifest(root)
    new_items = [_NEW_ITEMS] if _NEW_ITEMS in manifest["files"] else []
    for name in (_PAIRS, *(f"{side}s.parquet" for side in _SIDES), *new_items):
        path = root / name
        if not path.is_file():
            raise DataError(f"root: expected {name} in {root}, got no such file; import the data again")
        if manifest["files"].get(name) != file_digest(path):
            raise DataError(f"{path}: expected the file that was written, got another SHA-256; import the data again")
    ids: dict[str, np.ndarray] = {}
    records: dict[str, list[Record] | None] = {}
    for side in _SIDES:
        with _translate_read_errors(root / f"{side}s.parquet"):
            table = pq.read_table(root / f"{side}s.parquet")
            ids[side] = np.asarray(table[f"{side}_id"].to_pylist(), dtype=np.str_)
            rows = table["record"].to_pylist() if "record" in table.column_names else None
            records[side] = None if rows is None else [json.loads(row) if row else {} for row in rows]
    new_records: dict[str, Record] = {}
    for name in new_items:
        with _translate_read_errors(root / name):
            table = pq.read_table(root / name)
            texts = map(json.loads, table["record"].to_pylist())
            new_records = dict(zip(table["item_id"].to_pylist(), texts, strict=True))
    with _translate_read_errors(root / _PAIRS):
        pairs = pq.read_table(root / _PAIRS)
        users, items, splits = (pairs[name].to_numpy() for name in ("user", "item", "split"))
    interactions = Interactions.from_coordinates(
        *((users[splits == number], items[splits == number]) for number in range(len(SPLITS))),
        name=manifest["name"],
        user_ids=ids["user"],
        item_ids=ids["item"],
    )
    if interactions.fingerprint != manifest["counts"].get("fingerprint"):
        raise DataError(f"root: expected the fingerprint of {root / MANIFEST}, got another; import the data again")
    return PreparedData(interactions, records["user"], records["item"], new_records, manifest["domain"], manifest)


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file, 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def describe_file(path: Path) -> dict[str, Any]:
    """Return name, size and SHA-256 of a file, for the history."""
    return {"file": path.name, "bytes": path.stat().st_size, "sha256": file_digest(path)}


def _write_files(data: PreparedData, folder: Path) -> None:
    """Write the tables and, last, the manifest."""
    interactions = data.interactions
    parts = [interactions.matrix(split).tocoo() for split in SPLITS]
    columns = {
        "user": np.concatenate([part.coords[0] for part in parts]).astype(np.int32),
        "item": np.concatenate([part.coords[1] for part in parts]).astype(np.int32),
        "split": np.repeat(np.arange(len(SPLITS), dtype=np.int8), [part.nnz for part in parts]),
    }
    pq.write_table(pa.table(columns), folder / _PAIRS, compression="zstd")
    sides = (("user", interactions.user_ids, data.user_records), ("item", interactions.item_ids, data.item_records))
    for side, ids, records in sides:
        table = {f"{side}_id": pa.array(ids.tolist(), pa.string())}
        if records is not None:
            texts = [json.dumps(record, ensure_ascii=False) if record else None for record in records]
            table["record"] = pa.array(texts, pa.string())
        pq.write_table(pa.table(table), folder / f"{side}s.parquet", compression="zstd")
    if data.new_item_records:
        texts = [json.dumps(record, ensure_ascii=False) for record in data.new_item_records.values()]
        rows = {"item_id": pa.array(data.new_item_records, pa.string()), "record": pa.array(texts, pa.string())}
        pq.write_table(pa.table(rows), folder / _NEW_ITEMS, compression="zstd")
    manifest = {
        "format": FORMAT,
        "name": interactions.name,
        "domain": data.domain,
        "counts": {name: value for name, value in interactions.summary().items() if name != "name"},
        "split_numbers": dict(enumerate(SPLITS)),
        **data.history,
        "files": {path.name: file_digest(path) for path in sorted(folder.iterdir())},
    }
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


@contextmanager
def _translate_read_errors(path: Path) -> Iterator[None]:
    """Translate errors of damaged files."""
    try:
        yield
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        reason = " ".join(str(error).split())[:120]
        raise DataError(
            f"{path}: expected a file of a prepared folder, got a damaged one ({reason}); import the data again"
        ) from error
