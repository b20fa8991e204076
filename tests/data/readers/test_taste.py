import numpy as np
import pytest
from scipy.sparse import csr_array

from face_lightning.data.readers import taste as module
from face_lightning.data.readers.taste import find_taste, most_common

TAGS = [["war", "drama"], ["war"], ["musical", "drama"], ["musical"], ["drama"], []]
TRAIN = csr_array(
    np.array(
        [
            [1, 1, 0, 0, 1, 0],  # war
            [0, 0, 1, 1, 1, 0],  # musicals
            [0, 0, 0, 0, 1, 1],  # nothing in particular
        ],
        dtype=np.float32,
    )
)


def naive_scores(train, tags):
    """Tag scores by plain loops, as defined in the docstring."""
    users = [[item for item in range(train.shape[1]) if row[item]] for row in train.toarray()]
    tagged = [sum(bool(tags[item]) for item in items) for items in users]
    names = sorted({name for row in tags for name in row})
    scores = []
    for items, size in zip(users, tagged, strict=True):
        row = {}
        for name in names:
            p = sum(name in tags[item] for user in users for item in user) / sum(tagged)
            count = sum(name in tags[item] for item in items)
            if count:
                q = (count - 0.7 + 5 * p) / (size + 5)
                if q > p:
                    row[name] = q * np.log(q / p)
        scores.append(row)
    return scores


def test_favourites_are_tags_more_frequent_than_in_the_population():
    result = find_taste(TRAIN, TAGS, np.ones(6, bool))
    assert result.favourites == (("war",), ("musical",), ())
    assert [set(row) for row in result.favourites] == [set(row) for row in naive_scores(TRAIN, TAGS)]


def test_favourites_and_typical_items_equal_a_naive_loop():
    generator = np.random.default_rng(0)
    train = csr_array((generator.random((20, 30)) < 0.3).astype(np.float32))
    tags = [[f"t{tag}" for tag in range(8) if generator.random() < 0.3] for _ in range(30)]
    result = find_taste(train, tags, np.ones(30, bool), num_favourites=3, num_items=5)
    popularity = train.toarray().sum(axis=0)
    for user, scores in enumerate(naive_scores(train, tags)):
        assert result.favourites[user] == tuple(sorted(scores, key=lambda name: (-scores[name], name))[:3])
        fit = {
            item: sum(scores.get(name, 0) for name in tags[item]) / max(len(tags[item]), 1) ** 0.5
            + 0.01 * np.log(20 / popularity[item])
            for item in np.flatnonzero(train.toarray()[user]).tolist()
        }
        assert result.items[user] == tuple(sorted(fit, key=lambda item: (-fit[item], item))[:5])


def test_chunks_change_nothing(monkeypatch):
    whole = find_taste(TRAIN, TAGS, np.ones(6, bool))
    monkeypatch.setattr(module, "_CHUNK", 2)
    assert find_taste(TRAIN, TAGS, np.ones(6, bool)) == whole


def test_only_items_with_a_title_are_named():
    result = find_taste(TRAIN, TAGS, np.array([0, 1, 1, 0, 0, 0], bool))
    assert result.items == ((1,), (2,), ())


@pytest.mark.parametrize("tags", [[[]] * 6, [["same"]] * 6])
def test_uninformative_tags_are_not_favourites(tags):
    result = find_taste(TRAIN, tags, np.ones(6, bool), num_items=2)
    assert result.favourites == ((), (), ())
    assert [len(row) for row in result.items] == [2, 2, 2]


def test_most_common_by_hand():
    values = ["rome", "rome", "", "paris", "oslo", "oslo"]
    assert most_common(TRAIN, values, 1) == (("rome",), ("oslo",), ("oslo",))
    assert most_common(TRAIN, values, 2) == (("rome", "oslo"), ("oslo", "paris"), ("oslo",))
