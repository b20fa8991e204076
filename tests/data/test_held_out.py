from dataclasses import replace

import numpy as np
import pytest

from face_lightning.data.datamodule import InteractionDataModule
from face_lightning.data.held_out import held_out, hold_out_texts
from face_lightning.data.interactions import Interactions
from face_lightning.data.profiles import Dataset, Profiles
from face_lightning.data.readers.reader import Reader
from face_lightning.data.readers.records import write_profiles
from face_lightning.errors import ConfigurationError, DataError

NUM_USERS, NUM_ITEMS = 20, 30
RECORDS = [{"title": f"Title{item}x", "tags": [f"tag{item}x"], "author": f"Author{item}x"} for item in range(NUM_ITEMS)]


def dataset() -> tuple[Interactions, Profiles]:
    grid = np.random.default_rng(0).random((NUM_USERS, NUM_ITEMS)) < 0.2
    empty = np.zeros(0, dtype=np.int64)
    interactions = Interactions.from_coordinates(
        np.nonzero(grid),
        (empty, empty),
        (empty, empty),
        name="x",
        user_ids=[f"u{user}" for user in range(NUM_USERS)],
        item_ids=[f"i{item}" for item in range(NUM_ITEMS)],
    )
    facts = [{"age": f"aged {user}"} for user in range(NUM_USERS)]
    return interactions, write_profiles(interactions, RECORDS, "book", facts)


def test_selection_is_a_hash_of_id_and_seed() -> None:
    ids = [str(number) for number in range(5000)]
    first = held_out("item", ids, 0.2, 0)
    assert abs(first.mean() - 0.2) < 0.02
    assert (held_out("item", ids[::-1], 0.2, 0)[::-1] == first).all(), "the order of ids has no effect"
    assert (first <= held_out("item", ids, 0.4, 0)).all(), "a larger share holds out a superset"
    for other in (held_out("user", ids, 0.2, 0), held_out("item", ids, 0.2, 1)):
        assert abs((first & other).mean() - 0.04) < 0.02, "users and items, and seeds, are independent"
    assert not held_out("item", ids, 0.0, 0).any()
    assert held_out("item", ids, 1.0, 0).all()


def test_training_texts_do_not_mention_held_out_items() -> None:
    interactions, profiles = dataset()
    visible, hidden = hold_out_texts(interactions, profiles, 0.4, 0)
    items = held_out("item", interactions.item_ids.tolist(), 0.4, 0)
    users = held_out("user", interactions.user_ids.tolist(), 0.4, 0)
    assert 0 < items.sum() < NUM_ITEMS
    texts = " ".join(text or "" for text in (*visible.user_texts, *visible.item_texts)).casefold()
    for item in range(NUM_ITEMS):
        for word in ("title", "tag", "author"):
            assert not (items[item] and f"{word}{item}x" in texts)
    assert visible.facts is None
    for full, seen, judged, mask in (
        (profiles.user_texts, visible.user_texts, hidden.user_texts, users),
        (profiles.item_texts, visible.item_texts, hidden.item_texts, items),
    ):
        assert [text is None for text in seen] == mask.tolist()
        assert list(judged) == [text if hide else None for text, hide in zip(full, mask, strict=True)]
    kept = np.flatnonzero(~users)
    assert all(f"Title{item}x" in (visible.item_texts[item] or "") for item in np.flatnonzero(~items))
    named = [f"Title{item}x" for item in np.flatnonzero(~items)]
    assert all(any(name in (visible.user_texts[user] or "") for name in named) for user in kept)


def test_other_texts_that_name_a_held_out_item_are_held_out() -> None:
    interactions, profiles = dataset()
    items = held_out("item", interactions.item_ids.tolist(), 0.4, 0)
    texts = list(profiles.user_texts)
    one, other = np.flatnonzero(~held_out("user", interactions.user_ids.tolist(), 0.4, 0))[:2]
    liked = [interactions.train[[user]].indices for user in (one, other)]
    hidden, kept = liked[0][items[liked[0]]][0], liked[1][~items[liked[1]]][0]
    texts[one] = f"Reads title{hidden}X again and again."
    texts[other] = f"Reads Title{kept}x again and again, and xTitle{liked[1][items[liked[1]]][0]}xx."
    visible, _ = hold_out_texts(interactions, replace(profiles, user_texts=tuple(texts)), 0.4, 0)
    assert visible.user_texts[one] is None
    assert visible.user_texts[other] == texts[other]


def test_precomputed_vectors_raise() -> None:
    interactions, profiles = dataset()
    vectors = np.zeros((NUM_USERS, 2), dtype=np.float32)
    with pytest.raises(DataError, match="held_out_texts: expected texts"):
        hold_out_texts(interactions, replace(profiles, user_vectors=vectors), 0.2, 0)


class Given(Reader):
    def read(self) -> Dataset:
        return Dataset(*dataset())


def test_data_module_holds_out_texts() -> None:
    plain, hiding = InteractionDataModule(Given()), InteractionDataModule(Given(), held_out_texts=0.4, seed=0)
    assert plain.held_out_profiles is None
    visible, hidden = hold_out_texts(*dataset(), 0.4, 0)
    assert hiding.profiles.user_texts == visible.user_texts
    assert hiding.profiles.item_texts == visible.item_texts
    assert hiding.held_out_profiles is not None
    assert hiding.held_out_profiles.item_texts == hidden.item_texts
    assert InteractionDataModule(Given(), held_out_texts=0.4, seed=1).profiles.item_texts != visible.item_texts
    with pytest.raises(ConfigurationError, match="held_out_texts"):
        InteractionDataModule(Given(), held_out_texts=1.5)
