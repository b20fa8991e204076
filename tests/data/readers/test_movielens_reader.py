import pickle

import numpy as np
import pytest
from scipy.sparse import coo_matrix

from face_lightning.data.movielens import Film, MovieLensTables, Viewer, write_tables
from face_lightning.data.readers import MovieLens100K
from face_lightning.errors import ConfigurationError, DataError


@pytest.fixture
def root(tmp_path):
    """Ten viewers and ten films with high ratings except for two, and a viewer and a film that the core removes."""
    ratings = [(viewer, film, 4 + (viewer + film) % 2, 0) for viewer in range(1, 11) for film in range(1, 11)]
    ratings = [row for row in ratings if row[:2] not in {(1, 2), (1, 3)}] + [(1, 2, 3, 0), (11, 11, 5, 0)]
    films = [Film(film, f"Film{film}x", str(1980 + film), ("War" if film % 2 else "Comedy",)) for film in range(1, 12)]
    viewers = [Viewer(viewer, 5 * viewer + 10, "F", "writer") for viewer in range(1, 12)]
    tables = MovieLensTables(np.array(ratings, dtype=np.int64), tuple(films), tuple(viewers))
    write_tables(tables, tmp_path / "root", "test")
    return tmp_path / "root"


def test_protocol_by_hand(root):
    interactions = MovieLens100K(root).read().interactions
    assert interactions.name == "ml-100k"
    assert interactions.user_ids.tolist() == [str(number) for number in range(1, 11)]
    assert interactions.item_ids.tolist() == [str(number) for number in range(1, 11)]
    splits = [np.asarray(interactions.matrix(split).sum(axis=1)).tolist() for split in ("train", "valid", "test")]
    assert splits == [[5] + [6] * 9, [1] + [2] * 9, [2] * 10]
    everything = (interactions.train + interactions.valid + interactions.test).toarray()
    assert everything.max() == 1
    assert np.argwhere(everything == 0).tolist() == [[0, 1], [0, 2]]


def test_seed_rating_and_core_change_the_split(root):
    reference = MovieLens100K(root).read().interactions
    assert MovieLens100K(root).read().interactions.fingerprint == reference.fingerprint
    assert MovieLens100K(root, seed=1).read().interactions.fingerprint != reference.fingerprint
    assert MovieLens100K(root, core=1).read().interactions.num_users == 11
    assert MovieLens100K(root, min_rating=3).read().interactions.density == 99 / 100
    with pytest.raises(DataError, match=r"min_rating, core: expected ratings, got none with 4\.0 and 11; lower them"):
        MovieLens100K(root, core=11).read()
    with pytest.raises(ConfigurationError, match="core: expected at least 1, got 0"):
        MovieLens100K(root, core=0)


def test_texts_name_only_training_films(root):
    dataset = MovieLens100K(root).read()
    interactions, profiles = dataset.interactions, dataset.profiles
    assert profiles.domain == "movie"
    assert profiles.item_texts[0] == "Film1x (1981), war movie."
    assert profiles.item_labels[1] == "Film2x"
    for user, text in enumerate(profiles.user_texts):
        named = {item for item, label in enumerate(profiles.item_labels) if label in text}
        assert len(named) == 4
        assert named <= set(interactions.train[[user]].indices.tolist())
        assert "writer" not in text


def test_age_group_and_occupation_on_demand(root):
    texts = MovieLens100K(root, viewer_facts=True).read().profiles.user_texts
    endings = [text.split(". ")[1] for text in texts]
    assert endings[0] == "teenager, writer."
    assert endings[1] == endings[2] == "young adult, writer."
    assert endings[3] == "adult, writer."
    assert endings[9] == "older adult, writer."


@pytest.fixture
def given(tmp_path):
    """A given split of viewers 7 and 3 and films 9, 2 and 5, in this order."""
    folder = tmp_path / "given"
    folder.mkdir()
    for split, (row, column) in {"trn": ([0, 1], [0, 1]), "val": ([0], [1]), "tst": ([1], [2])}.items():
        matrix = coo_matrix((np.ones(len(row)), (row, column)), shape=(2, 3))
        (folder / f"{split}_mat.pkl").write_bytes(pickle.dumps(matrix))
    (folder / "user_ids.txt").write_text("7\n3\n")
    (folder / "item_ids.txt").write_text("9\n2\n5\n")
    return folder


def test_given_split_is_joined_by_id(root, given):
    dataset = MovieLens100K(root, given_split=given).read()
    assert dataset.interactions.train.toarray().tolist() == [[1, 0, 0], [0, 1, 0]]
    assert dataset.profiles.item_labels == ("Film9x", "Film2x", "Film5x")
    assert dataset.profiles.user_labels == ("7", "3")
    assert dataset.profiles.user_texts[0] == "Viewer who loves movies such as Film9x."


def test_given_split_without_ids_or_with_unknown_ids_raises(root, given):
    (given / "item_ids.txt").write_text("9\n2\n12\n")
    with pytest.raises(DataError, match=r"expected ids of MovieLens-100K .* got '12'"):
        MovieLens100K(root, given_split=given).read()
    (given / "item_ids.txt").unlink()
    with pytest.raises(DataError, match=r"given_split: expected item_ids\.txt in .*write the original ids"):
        MovieLens100K(root, given_split=given).read()


def test_missing_data_names_the_command(tmp_path):
    with pytest.raises(DataError, match=f"download it with: face data ml-100k --root {tmp_path}$"):
        MovieLens100K(tmp_path).read()
