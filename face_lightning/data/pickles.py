"""Safe reading of pickle files: NumPy arrays, SciPy sparse matrices and plain values only.

Unpickling may execute arbitrary code. This reader permits only the few calls that rebuild arrays, and rebuilds sparse
matrices itself after checking their indices; any other class is rejected by name.
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

from face_lightning.errors import ConfigurationError, DataError
from face_lightning.memory import check_memory

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
    """Attributes of a pickled sparse matrix, collected without running SciPy's code."""

    form: ClassVar[str]

    def rebuild(self) -> csr_array[Any]:
        """Build the sparse matrix from the attributes, after checking every index."""
        state = self.__dict__
        num_rows, num_columns = (int(size) for size in state["_shape"])
        shape = (num_rows, num_columns)
        check_memory(
            "matrix",
            8 * (num_rows + num_columns),
            f"a shape of {num_rows:,} x {num_columns:,}, whose row and column pointers take 8 bytes each",
            "correct the shape, or number users and items without gaps",
        )
        data = _numbers(state["data"])
        if self.form == "coo":
            row, col = state["coords"] if "coords" in state else (state["row"], state["col"])
            return csr_array(coo_array((data, (_numbers(row), _numbers(col))), shape=shape))
        parts = (data, _numbers(state["indices"]), _numbers(state["indptr"]))
        matrix = csr_array(parts, shape=shape) if self.form == "csr" else csc_array(parts, shape=shape)
        matrix.check_format(full_check=True)
        return csr_array(matrix)


class _StoredType:
    """A pickled dtype, collected without NumPy's own code, which a corrupt one can crash."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._order = "="

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self._order = state[1]

    def resolve(self) -> np.dtype[Any]:
        """Return the dtype if it is one of plain numbers, strings, bytes or objects."""
        if not re.fullmatch("[biufcSUO][0-9]{1,9}", self._name) or self._order not in ("<", ">", "=", "|"):
            raise pickle.UnpicklingError(f"an array of format {self._order}{self._name} is not plain")
        return np.dtype(self._order + self._name)


class _StoredArray(np.ndarray[Any, Any]):
    """A pickled array that validates its whole state before it is set."""

    __slots__ = ()

    def __setstate__(self, state: tuple[Any, ...], /) -> None:
        if self.size:
            raise pickle.UnpicklingError("an array is filled twice")  # earlier views would refer to freed memory
        _, shape, kind, fortran, raw = state
        dtype = kind.resolve()
        count = math.prod(_dimension(size) for size in shape)
        if not isinstance(raw, list if dtype.hasobject else bytes):
            raise pickle.UnpicklingError(f"an array of format {dtype} is stored as {type(raw).__name__}")
        if len(raw) != count * (1 if dtype.hasobject else dtype.itemsize):
            raise pickle.UnpicklingError(f"an array of shape {shape} and format {dtype} is stored in {len(raw)} values")
        super().__setstate__((1, tuple(shape), dtype, bool(fortran), raw))  # type: ignore[arg-type]


def _dimension(size: object) -> int:
    if not isinstance(size, int) or size < 0:
        raise pickle.UnpicklingError(f"an array has the size {size!r}")
    return size


class _NumPy:
    """Substitute for NumPy's functions during unpickling; has no attributes that a pickle could set.

    It is called with the arguments that NumPy pickles for `part`: `dtype`, `ndarray`, `_reconstruct`, `scalar`,
    `_frombuffer`.
    """

    __slots__ = ("_part",)
    _part: str

    def __init__(self, part: str) -> None:
        object.__setattr__(self, "_part", part)

    def __setattr__(self, name: str, value: object) -> None:
        raise pickle.UnpicklingError(f"{self._part} has no attribute {name}")

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
                raise pickle.UnpicklingError(f"an array is stored as {type(buffer).__name__}")
            return np.frombuffer(buffer, dtype=kind.resolve()).reshape(shape, order=order)
        raise pickle.UnpicklingError(f"{self._part} must not be called")


class _Latin1:
    """Rebuilds bytes of pickle protocol 2, which are stored as text; empty ones as a call without arguments."""

    __slots__ = ()

    def __call__(self, text: str = "", encoding: str = "latin1") -> bytes:
        if encoding not in ("latin1", "latin-1"):
            raise pickle.UnpicklingError(f"bytes are stored as latin1, not {encoding}")
        return text.encode("latin1")


class _Unpickler(pickle.Unpickler):
    """Unpickler that resolves a short list of names and rejects all others."""

    foreign: str | None = None

    def find_class(self, module: str, name: str, /) -> object:
        if (module.replace("numpy._core", "numpy.core"), name) in _NUMPY:
            return _NumPy(name)
        if (module, name) in (("_codecs", "encode"), ("__builtin__", "bytes")):
            return _Latin1()
        if module in _SPARSE_MODULES and name in _SPARSE:
            return type(name, (_StoredMatrix,), {"form": name[:3]})  # a class per pickle: they cannot affect each other
        self.foreign = f"{module}.{name}"
        raise pickle.UnpicklingError(f"{self.foreign} is not allowed")


def read_pickle(path: Path) -> object:
    """Read one object: plain values, NumPy arrays, or a SciPy matrix, which is returned as a CSR array.

    Args:
        path: Pickle file.

    Raises:
        DataError: If the file is missing, damaged, or contains another class, which the error names.
    """
    if not path.is_file():
        raise DataError(f"{path}: expected a pickle file, got no file; check folder and file name")
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
    except ConfigurationError as error:
        raise DataError(f"{path}: {error}") from error
    except Exception as error:  # a damaged pickle can raise anything
        if foreign is not None:
            raise DataError(
                f"{path}: expected NumPy arrays, SciPy COO/CSR/CSC matrices and plain values only, got "
                f"{foreign}, which was not loaded; save the data again without it"
            ) from error
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{path}: expected an intact pickle, got a damaged one ({reason}); copy it again") from error


def _check_sizes(content: bytes) -> None:
    """Reject lengths and memo indices that exceed the size of the file: Python would allocate memory for them."""
    for operation, argument, _ in pickletools.genops(content):  # rejects lengths beyond the end itself
        if "PUT" in operation.name and int(argument or 0) > len(content):
            raise pickle.UnpicklingError(f"it has the memo index {argument} in a file of {len(content)} bytes")


def read_matrix(path: Path) -> csr_array[Any]:
    """Read a sparse matrix of users and items.

    Raises:
        DataError: As `read_pickle`, or if the file contains something else.
    """
    value = read_pickle(path)
    if not isinstance(value, csr_array) or value.ndim != 2:
        raise DataError(f"{path}: expected a SciPy sparse matrix, got {type(value).__name__}; check the file")
    return value


def _numbers(value: object) -> np.ndarray:
    """Return the value if it is an array of plain numbers."""
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "biuf":
        raise ValueError("a sparse matrix must consist of arrays of numbers")
    return np.asarray(value)
