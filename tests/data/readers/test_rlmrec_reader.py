import json
import os
import pickle

import numpy as np
import pytest
from scipy.sparse import coo_matrix

from face_lightning.data.readers import RLMRecFolder
from face_lightning.errors import DataError


def put(folder, name, value):
    (folder / name).write_bytes(pickle.dumps(value))


def test_matrices_without_texts(rlmrec_folder):
    dataset = RLMRecFolder(rlmrec_folder).read()
    assert dataset.profiles is None
    interactions = dataset.interactions
    assert interactions.name == "tiny"
    assert interactions.train.toarray().tolist() == [[1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 1]]
    assert interactions.valid.toarray().tolist() == [[0, 0, 1, 0], [0, 0, 0, 1], [0, 0, 0, 0]]
    assert interactions.test.toarray().tolist() == [[0, 0, 0, 1], [0, 0, 0, 0], [1, 0, 0, 0]]
    assert interactions.user_ids.tolist() == ["0", "1", "2"]


def test_profiles_vectors_ids_and_metadata_join(rlmrec_folder):
    put(rlmrec_folder, "usr_prf.pkl", {0: {"profile": "Likes  old\nfilms."}, 2: "Plain text."})
    put(rlmrec_folder, "itm_prf.pkl", {1: {"profile": "Written."}, 3: {"profile": ""}})
    put(rlmrec_folder, "usr_emb_np.pkl", np.arange(6.0).reshape(3, 2))
    put(rlmrec_folder, "itm_emb_np.pkl", np.ones((4, 2), np.float32))
    (rlmrec_folder / "user_ids.txt").write_text("x\ny\nz\n")
    (rlmrec_folder / "item_ids.txt").write_text("10\n11\n12\n13\n")
    lines = [{"item_id": item, "title": f"T{item}", "genres": ["War"]} for item in range(3)]
    (rlmrec_folder / "items.jsonl").write_text("\n".join(map(json.dumps, lines)))
    dataset = RLMRecFolder(rlmrec_folder, domain="movie", name="mine").read()
    profiles = dataset.profiles
    assert dataset.interactions.name == "mine"
    assert profiles.user_texts == (
        "Likes old films.",
        "Viewer who loves movies such as T1 and T2.",
        "Plain text.",
    )
    assert profiles.item_texts == ("T0, war movie.", "Written.", "T2, war movie.", None)
    assert profiles.item_labels == ("T0", "T1", "T2", "13")
    assert profiles.user_labels == ("x", "y", "z")
    assert profiles.user_vectors.dtype == np.float32
    np.testing.assert_array_equal(profiles.user_vectors, [[0, 1], [2, 3], [4, 5]])


def test_other_metadata_by_argument(rlmrec_folder, tmp_path):
    (tmp_path / "other.jsonl").write_text('{"item_id": 0, "name": "Zero"}\n')
    profiles = RLMRecFolder(rlmrec_folder, item_metadata=tmp_path / "other.jsonl").read().profiles
    assert profiles.item_texts == ("Zero.", None, None, None)
    with pytest.raises(DataError, match="check item_metadata"):
        RLMRecFolder(rlmrec_folder, item_metadata=tmp_path / "none.jsonl").read()


def test_pairs_in_two_splits_are_dropped_with_a_warning(rlmrec_folder):
    put(rlmrec_folder, "val_mat.pkl", coo_matrix(([1.0, 1.0], ([0, 0], [0, 2])), shape=(3, 4)))
    with pytest.warns(UserWarning, match="tiny: 1 pairs of valid are also in an earlier split"):
        interactions = RLMRecFolder(rlmrec_folder).read().interactions
    assert interactions.valid.toarray()[0].tolist() == [0, 0, 1, 0]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("val_mat.pkl", None, r"val_mat\.pkl: expected a pickle file, got no file"),
        ("trn_mat.pkl", b"\x80\x04", r"trn_mat\.pkl: expected an intact pickle"),
        ("tst_mat.pkl", pickle.dumps(coo_matrix((2, 4))), r"one shape"),
        ("usr_prf.pkl", pickle.dumps(["x"]), r"usr_prf\.pkl: expected a dict .* got list"),
        ("usr_prf.pkl", pickle.dumps({3: "x"}), r"usr_prf\.pkl: .* 0 to 2 .* got 3"),
        ("itm_prf.pkl", pickle.dumps({0: {"profile": 7}}), r"itm_prf\.pkl: .* got 0 with int"),
        (
            "usr_emb_np.pkl",
            pickle.dumps(np.ones((4, 2))),
            r"usr_emb_np\.pkl: expected 3 text vectors, .* got 4",
        ),
        ("itm_emb_np.pkl", pickle.dumps(np.ones(4)), r"itm_emb_np\.pkl: expected a matrix of numbers"),
        ("itm_emb_np.pkl", pickle.dumps(np.full((4, 2), np.nan)), r"item_vectors: expected finite numbers"),
        ("user_ids.txt", b"a\nb\n", r"user_ids\.txt: expected 3 ids, .* got 2"),
        ("item_ids.txt", b"a\na\nb\nc\n", r"item_ids: expected unique ids"),
    ],
)
def test_missing_damaged_and_inconsistent_files_raise_in_one_line(rlmrec_folder, name, content, message):
    if content is None:
        (rlmrec_folder / name).unlink()
    else:
        (rlmrec_folder / name).write_bytes(content)
    with pytest.raises(DataError, match=message) as raised:
        RLMRecFolder(rlmrec_folder).read()
    assert "\n" not in str(raised.value)


def test_missing_folder_raises(tmp_path):
    with pytest.raises(DataError, match=r"root: expected a folder with trn_mat\.pkl"):
        RLMRecFolder(tmp_path / "none").read()


def test_code_in_profiles_is_not_executed(rlmrec_folder, tmp_path):
    class Attack:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "made"),)

    put(rlmrec_folder, "usr_prf.pkl", {0: Attack()})
    with pytest.raises(DataError, match=r"usr_prf\.pkl: .*mkdir, which was not loaded"):
        RLMRecFolder(rlmrec_folder).read()
    assert not (tmp_path / "made").exists()
