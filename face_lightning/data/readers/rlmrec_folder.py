"""Reader of folders in the layout of RLMRec, which FACE uses as well."""

import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from face_lightning.data.interactions import SPLITS, Interactions
from face_lightning.data.pickles import read_matrix, read_pickle
from face_lightning.data.plain_values import without_markup
from face_lightning.data.prepared import PreparedData, describe_file
from face_lightning.data.preparing import Step, notices
from face_lightning.data.profiles import Dataset, Profiles
from face_lightning.data.readers.prepared_folder import missing_texts
from face_lightning.data.readers.reader import Reader
from face_lightning.data.readers.records import read_records, write_profiles
from face_lightning.errors import DataError


class RLMRecFolder(Reader):
    """Reads `trn_mat.pkl`, `val_mat.pkl`, `tst_mat.pkl`, and the texts in the same folder.

    Pickles may contain NumPy arrays, SciPy sparse matrices and plain values; no code in them is executed.
    Profiles take precedence over template texts of item metadata. Optional files:

    - `usr_prf.pkl`, `itm_prf.pkl`: dict of row number to profile, or to a dict with "profile"
    - `usr_emb_np.pkl`, `itm_emb_np.pkl`: text vectors `(U, E)` and `(I, E)`
    - `user_ids.txt`, `item_ids.txt`: original ids, one per line (row numbers if missing)
    - `items.jsonl`: one JSON object per line, with the column number as `item_id`; users' texts are written only from
      their training items

    Args:
        root: Folder of the data set.
        domain: Kind of items: "movie", "game", "book", "restaurant" or "item".
        item_metadata: JSONL file to use instead of `items.jsonl`.
        name: Name of the data set; that of the folder if omitted.

    Reference: Ren et al., "Representation Learning with Large Language Models for Recommendation",
    WWW 2024.
    """

    def __init__(
        self,
        root: str | Path,
        domain: str = "item",
        item_metadata: str | Path | None = None,
        name: str | None = None,
    ) -> None:
        self.root = Path(root)
        self.domain = domain
        self.item_metadata = None if item_metadata is None else Path(item_metadata)
        self.name = name or self.root.resolve().name

    def read(self) -> Dataset:
        """Read matrices, texts and vectors.

        Raises:
            DataError: If a matrix is missing, or a file is damaged or inconsistent with the matrices.
        """
        interactions = read_split(self.root, self.name)
        metadata = self.item_metadata or self.root / "items.jsonl"
        sides = {
            side: (
                _read_texts(self.root / f"{side}_prf.pkl", count),
                _read_vectors(self.root / f"{side}_emb_np.pkl", count),
            )
            for side, count in (("usr", interactions.num_users), ("itm", interactions.num_items))
        }
        described = self.item_metadata is not None or metadata.is_file()
        if not described and all(part is None for side in sides.values() for part in side):
            return Dataset(interactions)
        records = read_records(metadata, interactions.num_items) if described else [{}] * interactions.num_items
        profiles = write_profiles(interactions, records, self.domain)
        profiles = replace(
            profiles,
            user_texts=_prefer(sides["usr"][0], profiles.user_texts),
            item_texts=_prefer(sides["itm"][0], profiles.item_texts),
            user_vectors=sides["usr"][1],
            item_vectors=sides["itm"][1],
        )
        profiles.check(interactions, source=str(self.root))
        return Dataset(interactions, profiles if _has_content(profiles) else None)

    def prepare(self) -> PreparedData:
        """Return the data for `face data import`: splits, ids, and records, in which a profile is the field `text`.

        Raises:
            DataError: As `read` does.
        """
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            dataset = self.read()
        messages = [str(warning.message) for warning in caught if issubclass(warning.category, UserWarning)]
        interactions, profiles = dataset.interactions, dataset.profiles
        metadata = self.item_metadata or self.root / "items.jsonl"
        user_records = item_records = None
        if profiles is not None:
            if profiles.user_vectors is not None or profiles.item_vectors is not None:
                messages.append(
                    "text vectors are not imported, texts will be encoded; the reader RLMRecFolder uses them"
                )
            users = _read_texts(self.root / "usr_prf.pkl", interactions.num_users) or (None,) * interactions.num_users
            items = _read_texts(self.root / "itm_prf.pkl", interactions.num_items) or (None,) * interactions.num_items
            known = read_records(metadata, interactions.num_items) if metadata.is_file() else ({},) * len(items)
            user_records = [{"text": text} if text else {} for text in users]
            item_records = [
                {
                    name: value
                    for name, value in {**record, "text": text}.items()
                    if name != "item_id" and value is not None
                }
                for record, text in zip(known, items, strict=True)
            ]
        history = {
            "sources": [describe_file(path) for path in sorted({*self.root.glob("*.pkl"), metadata}) if path.is_file()],
            "steps": [_step(interactions)],
            "notices": messages + notices(interactions),
            "without_text": missing_texts(dataset),
        }
        return PreparedData(interactions, user_records, item_records, domain=self.domain, history=history)


def _step(interactions: Interactions) -> dict[str, int | str]:
    """Return the only step, reading the given split."""
    num_pairs = sum(int(interactions.matrix(split).nnz) for split in SPLITS)
    return Step("read, split as given", num_pairs, interactions.num_users, interactions.num_items)._asdict()


def read_split(root: Path, name: str) -> Interactions:
    """Read the three matrices of a folder and, where present, its original ids.

    Pairs in two splits are removed from the later one, with a warning.

    Raises:
        DataError: If a matrix is missing or damaged, or the ids do not match the matrices.
    """
    if not root.is_dir():
        raise DataError(
            f"root: expected a folder with trn_mat.pkl, val_mat.pkl and tst_mat.pkl, got {root}; correct the path"
        )
    matrices = [read_matrix(root / f"{split}_mat.pkl") for split in ("trn", "val", "tst")]
    return Interactions.from_matrices(
        *matrices,
        name=name,
        user_ids=_read_ids(root / "user_ids.txt", matrices[0].shape[0]),
        item_ids=_read_ids(root / "item_ids.txt", matrices[0].shape[1]),
        overlap="drop",
    )


def _read_ids(path: Path, count: int) -> list[str] | None:
    """Read original ids, one per line; None if there is no file."""
    if not path.is_file():
        return None
    ids = path.read_text(encoding="utf-8").splitlines()
    if len(ids) != count:
        raise DataError(
            f"{path}: expected {count} ids, one per line in the order of the matrices, got {len(ids)}; "
            "write them again or remove the file"
        )
    return ids


def _read_texts(path: Path, count: int) -> tuple[str | None, ...] | None:
    """Read profiles by row number; None if there is no file."""
    if not path.is_file():
        return None
    value = read_pickle(path)
    if not isinstance(value, Mapping):
        raise DataError(f"{path}: expected a dict of row number to profile, got {type(value).__name__}; check the file")
    texts: list[str | None] = [None] * count
    for key, entry in value.items():
        text = entry.get("profile") if isinstance(entry, Mapping) else entry
        if type(key) is not int or not 0 <= key < count or not isinstance(text, str | None):
            raise DataError(
                f"{path}: expected row numbers from 0 to {count - 1} with a profile as text, got "
                f"{key!r} with {type(text).__name__}; the file belongs to another data set or is damaged"
            )
        texts[key] = " ".join(without_markup(text or "").split()) or None
    return tuple(texts)


def _read_vectors(path: Path, count: int) -> np.ndarray | None:
    """Read text vectors `(count, E)` as float32; None if there is no file."""
    if not path.is_file():
        return None
    value = read_pickle(path)
    if not isinstance(value, np.ndarray) or value.ndim != 2 or value.dtype.kind not in "iuf":
        raise DataError(f"{path}: expected a matrix of numbers, got {type(value).__name__}; check the file")
    if len(value) != count:
        raise DataError(
            f"{path}: expected {count} text vectors, one per row or column of the matrices, got "
            f"{len(value)}; use those of this data set or remove the file"
        )
    return value.astype(np.float32)


def _prefer(first: tuple[str | None, ...] | None, second: tuple[str | None, ...]) -> tuple[str | None, ...]:
    """Return the first texts, with missing ones replaced by the second."""
    return second if first is None else tuple(one or other for one, other in zip(first, second, strict=True))


def _has_content(profiles: Profiles) -> bool:
    """Return whether there is any text or vector."""
    texts = any(profiles.user_texts) or any(profiles.item_texts)
    return texts or profiles.user_vectors is not None or profiles.item_vectors is not None
