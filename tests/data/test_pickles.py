import io
import os
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from face_lightning.data.pickles import read_matrix, read_pickle
from face_lightning.errors import DataError

DENSE = np.array([[0, 2, 0], [1, 0, 3]])


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("kind", ["matrix", "array"])
@pytest.mark.parametrize("form", ["coo", "csr", "csc"])
def test_sparse_matrices_are_returned_as_csr(tmp_path, form, kind, protocol):
    value = getattr(sparse, f"{form}_{kind}")(DENSE)
    (tmp_path / "m.pkl").write_bytes(pickle.dumps(value, protocol))
    result = read_matrix(tmp_path / "m.pkl")
    assert isinstance(result, sparse.csr_array)
    np.testing.assert_array_equal(result.toarray(), DENSE)


@pytest.mark.parametrize("protocol", [2, 5])
@pytest.mark.parametrize(
    "value",
    [
        {0: {"profile": "likes é"}, 1: "x"},
        [1, 2.5, None, True],
        {"a": np.float32(1.5)},
        np.arange(6.0).reshape(2, 3),
    ],
)
def test_plain_values_and_arrays(tmp_path, value, protocol):
    (tmp_path / "v.pkl").write_bytes(pickle.dumps(value, protocol))
    np.testing.assert_equal(read_pickle(tmp_path / "v.pkl"), value)


def test_names_of_older_numpy_and_scipy(tmp_path):
    content = pickle.dumps(sparse.coo_matrix(DENSE), 2)
    content = content.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    content = content.replace(b"scipy.sparse._coo", b"scipy.sparse.coo")
    assert b"numpy.core.multiarray" in content
    assert b"scipy.sparse.coo\n" in content
    (tmp_path / "old.pkl").write_bytes(content)
    np.testing.assert_array_equal(read_matrix(tmp_path / "old.pkl").toarray(), DENSE)


class Attack:
    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(("function", "name"), [(os.mkdir, r"\w+\.mkdir"), (eval, "builtins.eval")])
def test_other_classes_are_named_and_not_executed(tmp_path, function, name):
    target = tmp_path / "made"
    argument = str(target) if function is os.mkdir else f"__import__('os').mkdir({str(target)!r})"
    (tmp_path / "bad.pkl").write_bytes(pickle.dumps({"a": [1, Attack(function, argument)]}))
    with pytest.raises(DataError, match=rf"got {name}, which was not loaded") as raised:
        read_pickle(tmp_path / "bad.pkl")
    assert "\n" not in str(raised.value)
    assert not target.exists()


def test_pickles_cannot_affect_each_other(tmp_path):
    # Pushes the class, then sets an attribute on the class itself with BUILD's slot state.
    spoil = b"cscipy.sparse._coo\ncoo_matrix\n(N}X\x07\x00\x00\x00rebuildK\x01stb."
    (tmp_path / "spoil.pkl").write_bytes(spoil)
    read_pickle(tmp_path / "spoil.pkl")
    (tmp_path / "m.pkl").write_bytes(pickle.dumps(sparse.coo_matrix(DENSE)))
    np.testing.assert_array_equal(read_matrix(tmp_path / "m.pkl").toarray(), DENSE)


@pytest.mark.parametrize("form", ["coo", "csr"])
def test_indices_outside_the_shape_raise(tmp_path, form):
    value = getattr(sparse, f"{form}_matrix")(DENSE)
    (value.col if form == "coo" else value.indices)[-1] = 99
    (tmp_path / "m.pkl").write_bytes(pickle.dumps(value))
    with pytest.raises(DataError, match=r"m\.pkl: expected an intact pickle, got a damaged one .*copy it again"):
        read_matrix(tmp_path / "m.pkl")


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_truncated_pickles_raise_in_one_line(tmp_path_factory, data):
    buffer = io.BytesIO()
    pickle.dump(sparse.coo_matrix(DENSE), buffer)
    content = buffer.getvalue()
    path = tmp_path_factory.mktemp("cut") / "m.pkl"
    path.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    with pytest.raises(DataError) as raised:
        read_matrix(path)
    assert "\n" not in str(raised.value)


def test_missing_file_and_wrong_content(tmp_path):
    with pytest.raises(DataError, match=r"none\.pkl: expected a pickle file, got no file"):
        read_pickle(tmp_path / "none.pkl")
    (tmp_path / "d.pkl").write_bytes(pickle.dumps({}))
    with pytest.raises(DataError, match=r"d\.pkl: expected a SciPy sparse matrix, got dict"):
        read_matrix(tmp_path / "d.pkl")


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("kind", ["f8", ">f8", "<i4", "u1", "?", "U3", "S2", "O", "c16"])
def test_arrays_of_every_plain_dtype(tmp_path, kind, protocol):
    value = np.asfortranarray(np.array([[1, 0, 2], [0, 3, 0]], dtype=kind))
    (tmp_path / "v.pkl").write_bytes(pickle.dumps({"rows": [value, value[:, 1], value[:0]]}, protocol))
    for result, expected in zip(read_pickle(tmp_path / "v.pkl")["rows"], (value, value[:, 1], value[:0]), strict=True):
        assert (result.dtype.newbyteorder("="), result.shape) == (expected.dtype.newbyteorder("="), expected.shape)
        np.testing.assert_array_equal(result, expected)


class Forged:
    """Pickles as an array, or as a call of another part of NumPy, with arguments that NumPy never writes."""

    def __init__(self, *reduced):
        self.reduced = reduced

    def __reduce__(self):
        return self.reduced


START = (np._core.multiarray._reconstruct, (np.ndarray, (0,), b"b"))
FLOAT = np.dtype("f8")
FORGERIES = {
    "fewer objects than its shape": (*START, (1, (3,), np.dtype("O"), False, [1])),  # crashes NumPy itself
    "objects in bytes": (*START, (1, (1,), np.dtype("O"), False, b"12345678")),
    "fewer bytes than its shape": (*START, (1, (2**62, 4), FLOAT, False, b"")),
    "negative sizes": (*START, (1, (-1, -5), FLOAT, False, b"1" * 40)),
    "a size that is none": (*START, (1, ("a",), FLOAT, False, b"")),
    "records": (*START, (1, (1,), np.dtype([("a", "f8")]), False, b"12345678")),
    "dates": (*START, (1, (1,), np.dtype("M8[s]"), False, b"12345678")),
    "memory of another array": (
        np._core.numeric._frombuffer,
        (Forged(*START, (1, (1,), FLOAT, False, b"12345678")), FLOAT, (1,), "C"),
    ),
    "an object as scalar": (np._core.multiarray.scalar, (np.dtype("O"), b"12345678")),
    "a scalar of two": (np._core.multiarray.scalar, (FLOAT, b"1" * 16)),
    "an array out of nothing": (np.ndarray, ((10**6, 10**6),)),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_forged_arrays_are_refused_before_numpy_sees_them(tmp_path, name):
    (tmp_path / "v.pkl").write_bytes(pickle.dumps(Forged(*FORGERIES[name])))
    with pytest.raises(DataError, match="expected an intact pickle, got a damaged one"):
        read_pickle(tmp_path / "v.pkl")


def test_claimed_sizes_are_not_trusted(tmp_path):
    claims = Forged(np.dtype, ("f8", False, True), (3, "<", None, None, None, 10**9, 1, 0))
    (tmp_path / "v.pkl").write_bytes(pickle.dumps(Forged(*START, (1, (1,), claims, False, np.float64(7).tobytes()))))
    assert read_pickle(tmp_path / "v.pkl").tolist() == [7.0]


def test_pickles_cannot_change_the_substitutes_of_numpy(tmp_path):
    (tmp_path / "v.pkl").write_bytes(b"cnumpy\ndtype\n(N}X\x05\x00\x00\x00_partX\x06\x00\x00\x00scalarstb.")
    with pytest.raises(DataError, match="dtype has no attribute _part"):
        read_pickle(tmp_path / "v.pkl")


def test_arrays_are_set_once(tmp_path):
    content = pickle.dumps(Forged(*START, (1, (1,), FLOAT, False, b"12345678")), 4)
    state = pickle.dumps((1, (1,), FLOAT, False, b"abcdefgh"), 4)
    frames = content[2:11], state[2:11]  # PROTO, then FRAME with its length
    twice = content.removesuffix(b".").replace(frames[0], b"", 1) + state[2:-1].replace(frames[1], b"", 1) + b"b."
    (tmp_path / "v.pkl").write_bytes(twice)
    with pytest.raises(DataError, match="an array is filled twice"):
        read_pickle(tmp_path / "v.pkl")
