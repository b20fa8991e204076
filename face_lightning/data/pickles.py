"""Pickle files without the danger: NumPy arrays, SciPy sparse matrices and plain values only.

A pickle is a program. This reader runs none of it but the few steps that rebuild arrays, and
rebuilds sparse matrices itself, with their indices checked; any other class is refused by name.
"""

import io
import math
import pickle
import pickletools
import re
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from scipy.sparse import coo_array, csc_array, csr_array

from face_lightning.errors import DataError

_SPARSE = {f"{form}_{kind}" for form in ("coo", "csr", "csc") for kind in ("matrix", "array")}
_SPARSE_MODULES = {"scipy.sparse"} | {
    f"scipy.sparse.{mark}{form}" for mark in ("", "_") for form in ("coo", "csr", "csc")
}

_NUMPY = {
    ("numpy", "dtype"),
    ("numpy", "ndarray"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy.core.multiarray", "scalar"),
    ("numpy.core.numeric", "_frombuffer"),
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


class _StoredType:
    """A pickled number format, gathered without NumPy's own code, which a spoilt one can crash."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._order = "="

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self._order = state[1]

    def resolve(self) -> np.dtype[Any]:
        """The format, if it is one of plain numbers, texts, bytes or objects."""
        if not re.fullmatch("[biufcSUO][0-9]{1,9}", self._name) or self._order not in ("<", ">", "=", "|"):
            raise pickle.UnpicklingError(f"an array of format {self._order}{self._name} is not plain")
        return np.dtype(self._order + self._name)


class _StoredArray(np.ndarray[Any, Any]):
    """A pickled array, which takes a state in only after a check of all of it."""

    __slots__ = ()

    def __setstate__(self, state: tuple[Any, ...], /) -> None:
        if self.size:
            raise pickle.UnpicklingError("an array is filled twice")  # whoever saw it before would see freed memory
        _, shape, kind, fortran, raw = state
        dtype = kind.resolve()
        count = math.prod(_whole(size) for size in shape)
        if not isinstance(raw, list if dtype.hasobject else bytes):
            raise pickle.UnpicklingError(f"an array of format {dtype} is kept as {type(raw).__name__}")
        if len(raw) != count * (1 if dtype.hasobject else dtype.itemsize):
            raise pickle.UnpicklingError(f"an array of shape {shape} and format {dtype} is kept in {len(raw)}")
        super().__setstate__((1, tuple(shape), dtype, bool(fortran), raw))  # type: ignore[arg-type]


def _whole(size: object) -> int:
    if not isinstance(size, int) or size < 0:
        raise pickle.UnpicklingError(f"an array has a size of {size!r}")
    return size


class _NumPy:
    """What a pickle finds in NumPy's place; has no attributes that it could set.

    Args of a call are those that NumPy writes for `part`: `dtype`, `ndarray`, `_reconstruct`, `scalar`, `_frombuffer`.
    """

    __slots__ = ("_part",)
    _part: str

    def __init__(self, part: str) -> None:
        object.__setattr__(self, "_part", part)

    def __setattr__(self, name: str, value: object) -> None:
        raise pickle.UnpicklingError(f"{self._part} takes no attribute {name}")

    def __call__(self, *arguments: Any) -> object:  # noqa: ANN401
        if self._part == "dtype":
            return _StoredType(arguments[0])
        if self._part == "_reconstruct":
            return np.empty(0, dtype=np.int8).view(_StoredArray)
        if self._part == "scalar":
            kind, raw = arguments
            (value,) = np.frombuffer(raw, dtype=kind.resolve())
            return value
        if self._part == "_frombuffer":
            buffer, kind, shape, order = arguments
            if not isinstance(buffer, bytes | bytearray):
                raise pickle.UnpicklingError(f"an array is kept as {type(buffer).__name__}")
            return np.frombuffer(buffer, dtype=kind.resolve()).reshape(shape, order=order)
        raise pickle.UnpicklingError(f"{self._part} is not to be called")


class _Latin1:
    """Rebuilds bytes of pickle protocol 2: kept as text, and where there are none, as a call without arguments."""

    __slots__ = ()

    def __call__(self, text: str = "", encoding: str = "latin1") -> bytes:
        if encoding not in ("latin1", "latin-1"):
            raise pickle.UnpicklingError(f"bytes are kept as latin1, not {encoding}")
        return text.encode("latin1")


class _Unpickler(pickle.Unpickler):
    """Unpickler that knows a short list of names and refuses all others."""

    foreign: str | None = None

    def find_class(self, module: str, name: str, /) -> object:
        if (module.replace("numpy._core", "numpy.core"), name) in _NUMPY:
            return _NumPy(name)
        if (module, name) in (("_codecs", "encode"), ("__builtin__", "bytes")):
            return _Latin1()
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
        if isinstance(value, _StoredMatrix):
            return value.rebuild()
        return np.asarray(value) if isinstance(value, _StoredArray) else value
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
    return np.asarray(value)
