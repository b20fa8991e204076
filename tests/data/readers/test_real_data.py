import hashlib

import pytest

from face_lightning.data.fetch import fetch_movielens_100k
from face_lightning.data.readers import MovieLens100K, RLMRecFolder
from face_lightning.errors import FaceError

pytestmark = pytest.mark.real_data

FOLDERS = {  # domain, users, items, pairs per split, users and items without text
    "amazon-book": ("book", 11000, 9332, (120464, 40290, 40106), (3260, 7078)),
    "yelp": ("restaurant", 11091, 11010, (166620, 55479, 55436), (1, 1538)),
    "steam-vt": ("game", 17038, 4436, (113013, 37427, 36699), (0, 0)),
}


@pytest.mark.parametrize("name", FOLDERS)
def test_folders_are_read_completely(shared_data, name):
    domain, num_users, num_items, pairs, without_text = FOLDERS[name]
    dataset = RLMRecFolder(shared_data / name, domain).read()
    interactions, profiles = dataset.interactions, dataset.profiles
    assert (interactions.num_users, interactions.num_items) == (num_users, num_items)
    assert (interactions.train.nnz, interactions.valid.nnz, interactions.test.nnz) == pairs
    assert (profiles.user_texts.count(None), profiles.item_texts.count(None)) == without_text
    assert max(len(text.split()) for text in (*profiles.user_texts, *profiles.item_texts) if text) < 72


def test_movielens_own_split_has_the_size_of_the_reference_split(shared_data, tmp_path):
    try:
        fetch_movielens_100k(tmp_path, quiet=True)
    except FaceError as error:
        pytest.skip(str(error))
    own = MovieLens100K(tmp_path).read()
    given = MovieLens100K(tmp_path, given_split=shared_data / "ml-100k-split").read()
    for one in (own.interactions, given.interactions):
        assert (one.num_users, one.num_items) == (938, 1008)
        assert (one.train.nnz, one.valid.nnz, one.test.nnz) == (32646, 10890, 10877)
    assert own.interactions.item_ids.tolist() == given.interactions.item_ids.tolist()
    everything = [one.train + one.valid + one.test for one in (own.interactions, given.interactions)]
    assert (everything[0] != everything[1]).nnz == 0
    assert own.profiles.item_texts[0] == "Toy Story (1995), animation, children's and comedy movie."
    assert None not in given.profiles.user_texts


def test_fetched_tables_are_unchanged(tmp_path):
    try:
        source = fetch_movielens_100k(tmp_path, quiet=True).source
    except FaceError as error:
        pytest.skip(str(error))
    assert source
    digest = hashlib.sha256((tmp_path / "interactions.tsv").read_bytes()).hexdigest()
    assert digest.startswith("d3bdffbd7201de56")
