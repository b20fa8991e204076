"""Interactions split into training, validation and test: validated once, then immutable."""

import hashlib
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
from scipy.sparse import coo_array, csr_array, sparray, spmatrix

from face_lightning.errors import DataError

SPLITS = ("train", "valid", "test")


@dataclass(frozen=True, eq=False)
class Interactions:
    """Implicit feedback of users and items in three disjoint splits.

    Use `from_matrices` or `from_coordinates` for data that are not in canonical form.

    Attributes:
        train: Training pairs `(U, I)`: float32 ones, sorted indices, no duplicates.
        valid: Validation pairs `(U, I)`.
        test: Test pairs `(U, I)`.
        user_ids: Original id of every row as text `(U,)`.
        item_ids: Original id of every column as text `(I,)`.
        name: Name of the data set in runs and results.

    Raises:
        DataError: If shapes differ, a matrix is not canonical, a pair is in two splits, ids repeat
            or their number differs from the matrices, or there are no training pairs.
    """

    train: csr_array[Any]
    valid: csr_array[Any]
    test: csr_array[Any]
    user_ids: np.ndarray
    item_ids: np.ndarray
    name: str

    def __post_init__(self) -> None:
        for split in SPLITS:
            _check_canonical(split, self.matrix(split), self.train.shape)
        for first, second in (("train", "valid"), ("train", "test"), ("valid", "test")):
            common = int(self.matrix(first).multiply(self.matrix(second)).nnz)
            if common:
                raise DataError(
                    f"{self.name}: expected splits without common pairs, got {common} pairs in both {first} and "
                    f"{second}; remove them, or build with Interactions.from_matrices(..., overlap='drop')"
                )
        _check_ids("user_ids", self.user_ids, self.num_users)
        _check_ids("item_ids", self.item_ids, self.num_items)
        if self.train.nnz == 0:
            raise DataError(
                f"{self.name}: expected at least one training interaction, got none; give interactions in train"
            )

    def matrix(self, split: str) -> csr_array[Any]:
        """Matrix `(U, I)` of the split named "train", "valid" or "test"."""
        matrix: csr_array[Any] = getattr(self, split)
        return matrix

    @property
    def num_users(self) -> int:
        """Number of users U."""
        return int(self.train.shape[0])

    @property
    def num_items(self) -> int:
        """Number of items I."""
        return int(self.train.shape[1])

    @property
    def density(self) -> float:
        """Share of all user-item pairs that are in any split, in `[0, 1]`."""
        filled = sum(int(self.matrix(split).nnz) for split in SPLITS)
        return filled / (self.num_users * self.num_items)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (64 hexadecimal digits) of the splits and ids; independent of the machine."""
        digest = hashlib.sha256(f"{self.num_users} {self.num_items}".encode())
        for split in SPLITS:
            matrix = self.matrix(split)
            for part in (matrix.indptr, matrix.indices):
                digest.update(np.ascontiguousarray(part, dtype="<i8").tobytes())
        for ids in (self.user_ids, self.item_ids):
            for value in ids.tolist():
                encoded = str(value).encode()
                digest.update(len(encoded).to_bytes(8, "little") + encoded)
        return digest.hexdigest()

    def summary(self) -> dict[str, int | float | str]:
        """Name, counts, density and fingerprint as plain values, for logs and results."""
        counts = {f"num_{split}": int(self.matrix(split).nnz) for split in SPLITS}
        return {
            "name": self.name,
            "num_users": self.num_users,
            "num_items": self.num_items,
            **counts,
            "density": self.density,
            "fingerprint": self.fingerprint,
        }

    @classmethod
    def from_matrices(
        cls,
        train: sparray | spmatrix,
        valid: sparray | spmatrix,
        test: sparray | spmatrix,
        *,
        name: str,
        user_ids: Sequence[str] | np.ndarray | None = None,
        item_ids: Sequence[str] | np.ndarray | None = None,
        overlap: str = "error",
    ) -> Self:
        """Convert three sparse matrices `(U, I)` to canonical form: values above 0 become ones.

        Args:
            train: Sparse matrix of any format and dtype; duplicates are merged.
            valid: Likewise.
            test: Likewise.
            name: Name of the data set.
            user_ids: Original ids `(U,)`; row numbers if omitted.
            item_ids: Original ids `(I,)`; column numbers if omitted.
            overlap: "error" rejects pairs that are in two splits; "drop" removes them from the later split and warns
                with their number.

        Raises:
            DataError: As the class does.
        """
        matrices = {"train": canonical(train), "valid": canonical(valid), "test": canonical(test)}
        shapes = {split: matrix.shape for split, matrix in matrices.items()}
        if len(set(shapes.values())) > 1:
            listed = ", ".join(f"{split} {shape}" for split, shape in shapes.items())
            raise DataError(f"{name}: expected splits of one shape (users, items), got {listed}; rebuild them")
        if overlap == "drop":
            _drop_overlap(matrices, name)
        num_users, num_items = matrices["train"].shape
        return cls(
            **matrices,
            user_ids=_as_ids(user_ids, num_users),
            item_ids=_as_ids(item_ids, num_items),
            name=name,
        )

    @classmethod
    def from_coordinates(
        cls,
        train: tuple[np.ndarray, np.ndarray],
        valid: tuple[np.ndarray, np.ndarray],
        test: tuple[np.ndarray, np.ndarray],
        *,
        name: str,
        user_ids: Sequence[str] | np.ndarray,
        item_ids: Sequence[str] | np.ndarray,
    ) -> Self:
        """Build from row numbers `(N,)` and column numbers `(N,)` of each split; the ids define the shape.

        Raises:
            DataError: As the class does, or if a number is out of range of the ids.
        """
        shape = (len(user_ids), len(item_ids))
        matrices = []
        for split, (rows, columns) in zip(SPLITS, (train, valid, test), strict=True):
            try:
                matrices.append(coo_array((np.ones(len(rows), np.float32), (rows, columns)), shape=shape))
            except ValueError as error:
                raise DataError(
                    f"{name}: expected row and column numbers of {split} within {shape}, got: {error}; "
                    "number users and items from 0"
                ) from error
        return cls.from_matrices(*matrices, name=name, user_ids=user_ids, item_ids=item_ids)


def canonical(matrix: sparray | spmatrix) -> csr_array[Any]:
    """Return a sparse matrix as binary CSR in float32, with a one for every value above 0."""
    source: Any = matrix  # the stubs have no constructor for both families
    pairs: coo_array[Any] = coo_array(source)
    positive = pairs.data > 0
    rows, columns = pairs.coords[0][positive], pairs.coords[1][positive]
    result = csr_array((np.ones(len(rows), np.float32), (rows, columns)), shape=pairs.shape)
    result.sum_duplicates()
    result.data[:] = 1
    return result


def _drop_overlap(matrices: dict[str, csr_array[Any]], name: str) -> None:
    """Remove pairs of train from valid, and pairs of either from test; warn with the numbers."""
    earlier = matrices["train"]
    for split in ("valid", "test"):
        matrix = matrices[split]
        common = matrix.multiply(earlier)
        if common.nnz:
            warnings.warn(
                f"{name}: {common.nnz} pairs of {split} are also in an earlier split; removed from {split}",
                stacklevel=3,
            )
            matrices[split] = canonical(matrix - common)
        earlier = earlier + matrix


def _as_ids(ids: Sequence[str] | np.ndarray | None, count: int) -> np.ndarray:
    """Return original ids as an array of strings; row numbers if there are none."""
    return np.asarray(np.arange(count) if ids is None else ids).astype(np.str_)


def _check_canonical(split: str, matrix: csr_array[Any], shape: tuple[int, ...]) -> None:
    """Check that a matrix has the shape of train and is in canonical form."""
    cure = "build with Interactions.from_matrices, which converts matrices"
    if not isinstance(matrix, csr_array):
        raise DataError(f"{split}: expected a scipy.sparse.csr_array, got {type(matrix).__name__}; {cure}")
    if matrix.shape != shape:
        raise DataError(f"{split}: expected the shape of train, {shape}, got {matrix.shape}; {cure}")
    if matrix.dtype != np.float32 or bool((matrix.data != 1).any()):
        raise DataError(f"{split}: expected ones in float32, got other values ({matrix.dtype}); {cure}")
    if not matrix.has_canonical_format:
        raise DataError(f"{split}: expected sorted indices without duplicates, got others; {cure}")


def _check_ids(argument: str, ids: np.ndarray, count: int) -> None:
    """Check that there are `count` distinct ids."""
    if ids.shape != (count,):
        raise DataError(
            f"{argument}: expected {count} ids, one per row or column of the matrices, got shape {ids.shape}; "
            "give the ids in the order of the matrices"
        )
    values, counts = np.unique(ids, return_counts=True)
    if len(values) != count:
        raise DataError(
            f"{argument}: expected unique ids, got {int((counts > 1).sum())} that repeat, the first is "
            f"{str(values[counts > 1][0])!r}; merge or rename them"
        )
