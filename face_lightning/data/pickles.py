"""Pickle files without the danger: NumPy arrays, SciPy sparse matrices and plain values only.

A pickle is a program. This reader runs none of it but the few steps that rebuild arrays, and
rebuilds sparse matrices itself, with their indices checked; any other class is refused by name.
"""

import io
import pickle
import pickletools
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from scipy.sparse import coo_array, csc_array, csr_array

from face_lightning.errors import DataError

_SPARSE = {f"{form}_{kind}" for form in ("coo", "csr", "csc") for kind in ("matrix", "array")}
_SPARSE_MODULES = {"scipy.sparse"} | {
    f"scipy.sparse.{mark}{form}" for mark in ("", "_") for form in ("coo", "csr", "csc")
}


class _StoredMatrix:
    """Attributes of a pickled sparse matrix, gathered without running SciPy's code on them."""

    form: ClassVar[str]

    def rebuild(self) -> csr_array[Any]:
        """Sparse matrix of the attributes, after a check of every index."""
        state = self.__dict__
        num_rows, num_columns = (int(size) for size in state["_shape"])
        shape = (num_rows, num_columns)
        data = _numbers(state["data"])
        if self.form == "coo":
            row, col = state["coords"] if "coords" in state else (state["row"], state["col"])
            return csr_array(coo_array((data, (_numbers(row), _numbers(col))), shape=shape))
        parts = (data, _numbers(state["indices"]), _numbers(state["indptr"]))
        matrix = csr_array(parts, shape=shape) if self.form == "csr" else csc_array(parts, shape=shape)
        matrix.check_format(full_check=True)
        return csr_array(matrix)


class _FromBuffer:
    """Rebuilds an array of pickle protocol 5; has no attributes that a pickle could set."""

    __slots__ = ()

    def __call__(
        self, buffer: bytes, dtype: np.dtype[Any], shape: tuple[int, ...], order: Literal["C", "F"]
    ) -> np.ndarray:
        return np.frombuffer(buffer, dtype=dtype).reshape(shape, order=order)


class _Latin1:
    """Rebuilds bytes of pickle protocol 2, which keeps them as text."""

    __slots__ = ()

    def __call__(self, text: str, encoding: str) -> bytes:
        if encoding not in ("latin1", "latin-1"):
            raise pickle.UnpicklingError(f"bytes are kept as latin1, not {encoding}")
        return text.encode("latin1")


class _Unpickler(pickle.Unpickler):
    """Unpickler that knows a short list of names and refuses all others."""

    foreign: str | None = None

    def find_class(self, module: str, name: str, /) -> object:
        core = module.replace("numpy._core", "numpy.core")
        if core == "numpy.core.multiarray" and name in ("_reconstruct", "scalar"):
            return getattr(np._core.multiarray, name)  # type: ignore[attr-defined]
        if core == "numpy.core.numeric" and name == "_frombuffer":
            return _FromBuffer()
        if (module, name) == ("_codecs", "encode"):
            return _Latin1()
        if module == "numpy" and name in ("ndarray", "dtype"):
            return getattr(np, name)
        if module in _SPARSE_MODULES and name in _SPARSE:
            return type(name, (_StoredMatrix,), {"form": name[:3]})  # fresh, so that no pickle can spoil another
        self.foreign = f"{module}.{name}"
        raise pickle.UnpicklingError(f"{self.foreign} is not allowed")


def read_pickle(path: Path) -> object:
    """Read one object: plain values, NumPy arrays, or a SciPy matrix, which comes as a CSR array.

    Args:
        path: Pickle file.

    Raises:
        DataError: If the file is missing, damaged, or holds any other class, which the error names.
    """
    if not path.is_file():
        raise DataError(f"{path}: expected a pickle file, but there is none; check folder and file name")
    foreign = None
    try:
        content = path.read_bytes()
        _check_sizes(content)
        unpickler = _Unpickler(io.BytesIO(content))
        try:
            value = unpickler.load()
        finally:
            foreign = unpickler.foreign
        return value.rebuild() if isinstance(value, _StoredMatrix) else value
    except Exception as error:  # a damaged pickle can fail in any way
        if foreign is not None:
            raise DataError(
                f"{path}: expected NumPy arrays, SciPy COO/CSR/CSC matrices and plain values only, but the "
                f"pickle asks for {foreign}, which was not loaded; save the data again without it"
            ) from error
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{path}: expected an intact pickle, but it is damaged ({reason}); copy it again") from error


def _check_sizes(content: bytes) -> None:
    """Refuse lengths and places that the file is too small for: Python would make room for them, gigabytes at worst."""
    for operation, argument, _ in pickletools.genops(content):  # itself refuses lengths beyond the end
        if "PUT" in operation.name and int(argument or 0) > len(content):
            raise pickle.UnpicklingError(f"it names place {argument} of a file of {len(content)} bytes")


def read_matrix(path: Path) -> csr_array[Any]:
    """Read a sparse matrix of users and items.

    Raises:
        DataError: As `read_pickle`, or if the file holds something else.
    """
    value = read_pickle(path)
    if not isinstance(value, csr_array) or value.ndim != 2:
        raise DataError(f"{path}: expected a SciPy sparse matrix, but it holds {type(value).__name__}; check the file")
    return value


def _numbers(value: object) -> np.ndarray:
    """The value, if it is an array of plain numbers."""
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "biuf":
        raise ValueError("a sparse matrix must consist of arrays of numbers")
    return value
