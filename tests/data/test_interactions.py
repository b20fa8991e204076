import dataclasses
import hashlib
import struct

import numpy as np
import pytest
from scipy.sparse import coo_matrix, csr_array, csr_matrix

from face_lightning.data.interactions import Interactions, canonical
from face_lightning.errors import DataError


def small(**changes):
    """Two users, three items."""
    arguments = {
        "train": (np.array([0, 0, 1]), np.array([0, 1, 2])),
        "valid": (np.array([0]), np.array([2])),
        "test": (np.array([1]), np.array([0])),
        "name": "small",
        "user_ids": ["u0", "u1"],
        "item_ids": ["a", "b", "c"],
    } | changes
    return Interactions.from_coordinates(**arguments)


def matrix(rows):
    return csr_matrix(np.array(rows, dtype=np.float64))


def test_summary_counts_by_hand():
    interactions = small()
    assert (interactions.num_users, interactions.num_items) == (2, 3)
    assert interactions.density == 5 / 6
    assert interactions.summary() == {
        "name": "small",
        "num_users": 2,
        "num_items": 3,
        "num_train": 3,
        "num_valid": 1,
        "num_test": 1,
        "density": 5 / 6,
        "fingerprint": interactions.fingerprint,
    }


def test_canonical_merges_duplicates_and_keeps_values_above_zero():
    given = coo_matrix(([3, 5, -1, 0, -2, 1], ([0, 0, 0, 1, 1, 1], [2, 2, 0, 0, 1, 1])), shape=(2, 3))
    result = canonical(given)
    assert isinstance(result, csr_array)
    assert result.dtype == np.float32
    assert result.has_canonical_format
    np.testing.assert_array_equal(result.toarray(), [[0, 0, 1], [0, 1, 0]])
    assert given.nnz == 6


def test_ids_default_to_numbers():
    interactions = Interactions.from_matrices(
        matrix([[1, 0], [0, 1]]), matrix([[0, 1], [0, 0]]), matrix([[0, 0], [1, 0]]), name="x"
    )
    assert interactions.user_ids.tolist() == ["0", "1"]
    assert interactions.item_ids.tolist() == ["0", "1"]


@pytest.mark.parametrize(("first", "second"), [("train", "valid"), ("train", "test"), ("valid", "test")])
def test_overlap_raises_with_splits_number_and_cure(first, second):
    parts = {
        "train": (np.array([0, 0]), np.array([0, 1])),
        "valid": (np.array([1]), np.array([2])),
        "test": (np.array([1]), np.array([0])),
    }
    parts[second] = parts[first]
    number = len(parts[first][0])
    with pytest.raises(DataError, match=rf"{number} pairs in both {first} and {second}.*overlap='drop'"):
        small(**parts)


def test_overlap_drop_removes_from_the_later_split_and_warns():
    train, valid, test = matrix([[1, 1, 0]]), matrix([[1, 0, 1]]), matrix([[0, 1, 1]])
    with pytest.warns(UserWarning, match=r"x: \d pairs of (valid|test)") as caught:
        interactions = Interactions.from_matrices(train, valid, test, name="x", overlap="drop")
    assert [str(warning.message)[:19] for warning in caught] == ["x: 1 pairs of valid", "x: 2 pairs of test "]
    assert interactions.train.toarray().tolist() == [[1, 1, 0]]
    assert interactions.valid.toarray().tolist() == [[0, 0, 1]]
    assert interactions.test.nnz == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"user_ids": ["u0", "u0"]}, "user_ids: expected unique ids, got 1 that repeat, the first is 'u0'"),
        ({"item_ids": ["a", "b"]}, "expected row and column numbers of train within"),
        ({"train": (np.array([0, -1]), np.array([0, 0]))}, "number users and items from 0"),
        ({"train": (np.array([], int), np.array([], int))}, "expected at least one training interaction"),
    ],
)
def test_invalid_coordinates_and_ids_raise(changes, message):
    with pytest.raises(DataError, match=message) as raised:
        small(**changes)
    assert "\n" not in str(raised.value)


def test_shapes_and_id_counts_must_fit():
    with pytest.raises(DataError, match=r"one shape \(users, items\), got train \(1, 2\), valid \(2, 1\)"):
        Interactions.from_matrices(matrix([[1, 0]]), matrix([[1], [0]]), matrix([[0, 1]]), name="x")
    with pytest.raises(DataError, match=r"user_ids: expected 1 ids, one per row or column of the matrices, got shape"):
        Interactions.from_matrices(matrix([[1, 0]]), matrix([[0, 0]]), matrix([[0, 1]]), name="x", user_ids=["a", "b"])


def test_constructor_rejects_non_canonical_matrices():
    good = small()
    fields = {field.name: getattr(good, field.name) for field in dataclasses.fields(good)}
    unsorted = csr_array((np.ones(2, np.float32), np.array([1, 0]), np.array([0, 2, 2])), shape=(2, 3))
    double = csr_array(good.train, dtype=np.float64)
    for wrong, message in (
        (unsorted, "sorted"),
        (double, "ones in float32"),
        (csr_matrix(good.train), "csr_array"),
    ):
        with pytest.raises(DataError, match=f"train: expected .*{message}.*from_matrices"):
            Interactions(**(fields | {"train": wrong}))


def test_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        small().name = "other"


def test_fingerprint_is_a_hash_of_shape_splits_and_ids():
    digest = hashlib.sha256(b"2 3")
    for indptr, indices in (((0, 2, 3), (0, 1, 2)), ((0, 1, 1), (2,)), ((0, 0, 1), (0,))):
        digest.update(struct.pack(f"<{len(indptr)}q", *indptr) + struct.pack(f"<{len(indices)}q", *indices))
    for value in ("u0", "u1", "a", "b", "c"):
        digest.update(struct.pack("<Q", len(value)) + value.encode())
    assert small().fingerprint == digest.hexdigest()


def test_fingerprint_depends_on_content_but_not_on_dtype_order_and_name():
    same = small(
        train=(np.array([1, 0, 0], np.int32), np.array([2, 1, 0], np.int32)),
        name="other",
        user_ids=np.array(["u0", "u1"]),
    )
    assert same.fingerprint == small().fingerprint
    swapped = small(valid=(np.array([1]), np.array([0])), test=(np.array([0]), np.array([2])))
    renamed = small(item_ids=["a", "b", "d"])
    glued = small(user_ids=["u", "0u1"])
    assert len({small().fingerprint, swapped.fingerprint, renamed.fingerprint, glued.fingerprint}) == 4
