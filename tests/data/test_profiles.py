import numpy as np
import pytest

from face_lightning.data.interactions import Interactions
from face_lightning.data.profiles import Profiles
from face_lightning.errors import DataError


def clicks(*item_ids):
    """Interactions of two users with the given items."""
    one, none = (np.array([0]), np.array([0])), (np.array([], int), np.array([], int))
    return Interactions.from_coordinates(one, none, none, name="small", user_ids=["a", "b"], item_ids=item_ids)


@pytest.fixture
def interactions():
    """Two users, three items."""
    return clicks("x", "y", "z")


def profiles(**changes):
    arguments = {
        "user_texts": ("likes x", None),
        "item_texts": (None, None, "z"),
        "user_labels": ("a", "b"),
        "item_labels": ("x", "y", "z"),
    } | changes
    return Profiles(**arguments)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {
            "user_vectors": np.zeros((2, 5), np.float32),
            "item_vectors": np.zeros((3, 5), np.float32),
            "domain": "book",
        },
    ],
    ids=["texts", "vectors"],
)
def test_check_accepts_only_matching_interactions(interactions, changes):
    fitting = profiles(**changes)
    fitting.check(interactions)
    with pytest.raises(DataError, match="expected 4"):
        fitting.check(clicks("x", "y", "z", "w"))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"user_vectors": np.zeros((3, 4), np.float32)}, "user_vectors: expected 2 text vectors, .* got 3"),
        ({"item_vectors": np.zeros((2, 4), np.float32)}, "item_vectors: expected 3 text vectors, .* got 2"),
        ({"user_texts": ("one",)}, "user_texts: expected 2 texts, one per user of small, got 1"),
        ({"item_labels": ()}, "item_labels: expected 3 labels, .* got 0"),
    ],
)
def test_other_row_counts_raise(interactions, changes, expected):
    with pytest.raises(DataError, match=f"^folder: {expected}; .* omit them$"):
        profiles(**changes).check(interactions, source="folder")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"domain": "films"}, "domain: expected one of movie, .* got 'films'"),
        ({"user_vectors": np.zeros((2, 4))}, "user_vectors: expected a float32 matrix .* float64"),
        ({"item_vectors": np.zeros(3, np.float32)}, r"item_vectors: expected .* shape \(3,\)"),
        ({"item_vectors": np.array([[0], [np.nan], [np.inf]], np.float32)}, "2 rows with NaN .* row 1"),
        (
            {"user_vectors": np.zeros((2, 4), np.float32), "item_vectors": np.zeros((3, 5), np.float32)},
            "the same width, got 4 and 5",
        ),
    ],
)
def test_invalid_profiles_raise_in_the_constructor(changes, message):
    with pytest.raises(DataError, match=message):
        profiles(**changes)
