"""Sampling: no positive among negatives, every pair once, ranks apart, and a resume that misses nothing."""

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given
from hypothesis import strategies as st

from face_lightning.data.sampling import EvaluationLoader, NegativeSampler, TrainingLoader
from face_lightning.errors import DataError


@st.composite
def matrices(draw: st.DrawFn) -> sp.csr_array:
    num_users, num_items = draw(st.integers(1, 7)), draw(st.integers(2, 9))
    cells = st.lists(st.booleans(), min_size=num_items, max_size=num_items)
    return sp.csr_array(np.array([draw(cells) for _ in range(num_users)], dtype=np.float32))


def random_matrix(num_users: int = 30, num_items: int = 20, density: float = 0.2, seed: int = 0) -> sp.csr_array:
    cells = np.random.default_rng(seed).random((num_users, num_items)) < density
    return sp.csr_array(cells.astype(np.float32))


@given(matrices())
def test_every_missing_item_is_reached_by_its_rank(train: sp.csr_array) -> None:
    sampler = NegativeSampler(train)
    for user, row in enumerate(train.toarray()):
        missing = np.flatnonzero(row == 0)
        users = torch.full((len(missing),), user)
        assert bool(sampler.has_negatives(torch.tensor([user]))) == (len(missing) > 0)
        assert sampler.missing_item(users, torch.arange(len(missing))).tolist() == missing.tolist()


def test_negatives_are_spread_evenly() -> None:
    train = sp.csr_array(np.array([[1, 0, 0, 1, 0, 0]], dtype=np.float32))
    drawn = NegativeSampler(train).sample(torch.zeros(40_000, dtype=torch.long), torch.Generator().manual_seed(0))
    counts = torch.bincount(drawn, minlength=6)
    assert counts[[0, 3]].tolist() == [0, 0]
    assert ((counts[[1, 2, 4, 5]] - 10_000).abs() < 500).all(), "five standard deviations"


def pairs_of(loader: TrainingLoader) -> list[tuple[int, int]]:
    return [pair for batch in loader for pair in zip(batch.user_ids.tolist(), batch.positive_ids.tolist(), strict=True)]


def all_pairs(train: sp.csr_array) -> list[tuple[int, int]]:
    return sorted(zip(*(side.tolist() for side in train.nonzero()), strict=True))


def test_every_pair_comes_once_an_epoch_with_a_true_negative() -> None:
    train = random_matrix()
    loader = TrainingLoader(train, batch_size=16)
    assert sorted(pairs_of(loader)) == all_pairs(train)
    dense = train.toarray()
    for batch in loader:
        assert not dense[batch.user_ids, batch.negative_ids].any()


def test_users_with_every_item_are_left_out_and_never_hang() -> None:
    train = sp.csr_array(np.array([[1, 1, 1], [1, 0, 0]], dtype=np.float32))
    assert pairs_of(TrainingLoader(train, batch_size=4)) == [(1, 0)]


def test_nothing_to_train_on_is_told() -> None:
    with pytest.raises(DataError, match="train has 0 interactions"):
        TrainingLoader(sp.csr_array(np.ones((2, 3), dtype=np.float32)), batch_size=4)


@pytest.mark.parametrize("world_size", [2, 3])
def test_ranks_share_no_pair_and_have_as_many_steps(world_size: int) -> None:
    train = random_matrix()
    loaders = [TrainingLoader(train, batch_size=5, rank=rank, world_size=world_size) for rank in range(world_size)]
    parts = [pairs_of(loader) for loader in loaders]
    together = sorted(pair for part in parts for pair in part)
    assert len(set(together)) == len(together)
    assert set(together) <= set(all_pairs(train))
    assert len(all_pairs(train)) - len(together) < world_size
    assert len({len(list(loader)) for loader in loaders}) == 1


def test_epochs_differ_and_repeat_by_their_number() -> None:
    train, epoch = random_matrix(), [0]
    loader = TrainingLoader(train, batch_size=16, epoch=lambda: epoch[0])
    first = pairs_of(loader)
    epoch[0] = 1
    assert pairs_of(loader) != first
    epoch[0] = 0
    assert pairs_of(loader) == first


def test_all_entities_are_visited_before_any_is_visited_again() -> None:
    train, epoch, seen = random_matrix(), [0], []
    loader = TrainingLoader(train, batch_size=8, entities_per_step=12, epoch=lambda: epoch[0])
    for epoch[0] in range(4):
        for batch in loader:
            assert len(batch.entity_ids.unique()) == len(batch.entity_ids) <= 12
            seen += batch.entity_ids.tolist()
    for begin in range(0, len(seen) - 50, 50):
        assert sorted(seen[begin : begin + 50]) == list(range(50))


def test_ranks_map_different_entities() -> None:
    loaders = [
        TrainingLoader(random_matrix(), batch_size=8, entities_per_step=5, rank=rank, world_size=2) for rank in (0, 1)
    ]
    for first, second in zip(*loaders, strict=True):
        assert set(first.entity_ids.tolist()).isdisjoint(second.entity_ids.tolist())


@pytest.mark.parametrize("stop", [1, 3])
def test_a_resume_in_mid_epoch_gives_exactly_the_rest(stop: int) -> None:
    train = random_matrix()
    whole = list(TrainingLoader(train, batch_size=16, entities_per_step=7, seed=3))
    interrupted = TrainingLoader(train, batch_size=16, entities_per_step=7, seed=3)
    iterator = iter(interrupted)
    for _ in range(stop):
        next(iterator)
    resumed = TrainingLoader(train, batch_size=16, entities_per_step=7, seed=3)
    resumed.load_state_dict(interrupted.state_dict())
    rest = list(resumed)
    assert len(rest) == len(whole) - stop
    for ours, theirs in zip(rest, whole[stop:], strict=True):
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    assert len(list(resumed)) == len(whole), "the epoch after starts at its beginning"


def test_a_finished_epoch_resumes_at_the_next() -> None:
    loader = TrainingLoader(random_matrix(), batch_size=16)
    list(loader)
    assert loader.state_dict() == {"next_step": 0}


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_users_to_rank_for_are_sharded_without_padding(world_size: int) -> None:
    train, valid = random_matrix(seed=1), random_matrix(density=0.05, seed=2)
    users: list[int] = []
    for rank in range(world_size):
        for batch in EvaluationLoader(train, valid, batch_size=4, rank=rank, world_size=world_size):
            users += batch.user_ids.tolist()
            seen = np.zeros((len(batch.user_ids), 20))
            seen[batch.seen_rows, batch.seen_items] = 1
            np.testing.assert_array_equal(seen, train.toarray()[batch.user_ids.numpy()])
            relevant = np.zeros((len(batch.user_ids), 20))
            relevant[batch.relevant_rows, batch.relevant_items] = 1
            np.testing.assert_array_equal(relevant, valid.toarray()[batch.user_ids.numpy()])
    assert sorted(users) == np.flatnonzero(valid.toarray().any(1)).tolist()
