"""Tests of sampling: true negatives, every pair once, disjoint ranks, and exact resumes."""

import itertools

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from face_lightning.data.sampling import (
    EntityLoader,
    EvaluationLoader,
    NegativeSampler,
    PopularitySampler,
    TrainingLoader,
)
from face_lightning.errors import ConfigurationError, DataError
from face_lightning.structures import TrainingBatch


@st.composite
def matrices(draw: st.DrawFn) -> sp.csr_array:
    num_users, num_items = draw(st.integers(1, 7)), draw(st.integers(2, 9))
    cells = st.lists(st.booleans(), min_size=num_items, max_size=num_items)
    return sp.csr_array(np.array([draw(cells) for _ in range(num_users)], dtype=np.float32))


def random_matrix(num_users: int = 30, num_items: int = 20, density: float = 0.2, seed: int = 0) -> sp.csr_array:
    cells = np.random.default_rng(seed).random((num_users, num_items)) < density
    return sp.csr_array(cells.astype(np.float32))


def uniform(count: int, seed: int) -> torch.Tensor:
    return torch.rand(count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@given(matrices())
def test_every_missing_item_is_reached_by_its_rank(train: sp.csr_array) -> None:
    sampler = NegativeSampler(train)
    for user, row in enumerate(train.toarray()):
        missing = np.flatnonzero(row == 0)
        users = torch.full((len(missing),), user)
        assert bool(sampler.has_negatives(torch.tensor([user]))) == (len(missing) > 0)
        assert sampler.missing_item(users, torch.arange(len(missing))).tolist() == missing.tolist()


def test_negatives_are_uniform_over_missing_items() -> None:
    train = random_matrix(num_users=12, num_items=9, density=0.5, seed=4)
    cells = train.toarray()
    draws = torch.arange(12).repeat(9_000)
    items = NegativeSampler(train).sample(draws, uniform(len(draws), 0))
    for user in range(12):
        counts = torch.bincount(items[draws == user], minlength=9).numpy()
        missing = cells[user] == 0
        assert (counts[~missing] == 0).all()
        _, probability = chisquare(counts[missing])
        assert probability > 1e-4, user


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
def test_popularity_sampling_follows_the_power_and_draws_no_positive(power: float) -> None:
    train = random_matrix(num_users=12, num_items=9, density=0.5, seed=4)
    cells = train.toarray()
    cells[:, 3] = 0  # an item without interactions is sampled as well
    train = sp.csr_array(cells)
    draws = torch.arange(12).repeat(9_000)
    items = PopularitySampler(train, power).sample(draws, uniform(len(draws), 0))
    popularity = cells.sum(0)
    weights = np.maximum(1, np.round(2**16 * (popularity / popularity.max()) ** power))
    for user in range(12):
        counts = torch.bincount(items[draws == user], minlength=9).numpy()
        missing = cells[user] == 0
        assert (counts[~missing] == 0).all()
        likely = missing & (popularity > 0)
        _, probability = chisquare(counts[likely], counts[likely].sum() * weights[likely] / weights[likely].sum())
        assert probability > 1e-4, user


@given(matrices(), st.floats(0.1, 3), st.integers(0, 99))
def test_a_popular_negative_is_missing(train: sp.csr_array, power: float, seed: int) -> None:
    if not train.nnz:
        return
    sampler, cells = PopularitySampler(train, power), train.toarray()
    users = torch.arange(train.shape[0])
    users = users[sampler.has_negatives(users)].repeat(5)
    items = sampler.sample(users, uniform(len(users), seed))
    assert not cells[users, items].any()


def all_pairs(train: sp.csr_array) -> list[tuple[int, int]]:
    return sorted(zip(*(side.tolist() for side in train.nonzero()), strict=True))


@given(matrices(), st.integers(1, 20), st.integers(1, 3))
def test_every_usable_pair_occurs_once_per_epoch_with_a_true_negative(
    train: sp.csr_array, batch_size: int, world_size: int
) -> None:
    cells = train.toarray()
    usable = [(user, item) for user, item in all_pairs(train) if not cells[user].all()]  # no negatives
    if len(usable) < world_size:
        with pytest.raises(DataError, match=f"expected at least {world_size}"):
            TrainingLoader(train, batch_size=batch_size, world_size=world_size)
        return
    loaders = [
        TrainingLoader(train, batch_size=batch_size, rank=rank, world_size=world_size) for rank in range(world_size)
    ]
    came: list[tuple[int, int]] = []
    for batches in zip(*loaders, strict=True):  # all ranks have the same number of steps
        for batch in batches:
            assert 1 <= len(batch.user_ids) <= batch_size
            assert not cells[batch.user_ids, batch.negative_ids].any()
            came += zip(batch.user_ids.tolist(), batch.positive_ids.tolist(), strict=True)
    assert len(set(came)) == len(came)
    assert set(came) <= set(usable)
    assert len(usable) - len(came) < world_size, "only a remainder smaller than the number of ranks is dropped"


def test_no_usable_pairs_raises() -> None:
    with pytest.raises(DataError, match=r"train: expected at least 1 interactions .*, got 0"):
        TrainingLoader(sp.csr_array(np.ones((2, 3), dtype=np.float32)), batch_size=4)


def same(first: TrainingBatch, second: TrainingBatch) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first[:4], second[:4], strict=True)) and first[4:] == second[4:]


@given(st.integers(1, 5), st.integers(2, 4), st.integers(1, 9))
def test_any_number_of_ranks_trains_on_the_same_triples(per_rank: int, world_size: int, entities: int) -> None:
    def step_rows(batches: tuple[TrainingBatch, ...]) -> tuple[list[tuple[int, int, int]], list[int]]:
        triples = [zip(*(column.tolist() for column in batch[:3]), strict=True) for batch in batches]
        ids = [batch.entity_ids.tolist() for batch in batches if batch.entity_share]
        return sorted(itertools.chain(*triples)), sorted(itertools.chain(*ids))

    def loader(rank: int, size: int) -> TrainingLoader:
        sizes = {"batch_size": per_rank * world_size // size, "entities_per_step": entities * world_size // size}
        return TrainingLoader(random_matrix(), **sizes, rank=rank, world_size=size)

    together = zip(*(loader(rank, world_size) for rank in range(world_size)), strict=True)
    for batches, alone in zip(together, loader(0, 1), strict=False):  # the remainder may be dropped
        assert step_rows(batches) == step_rows((alone,))
        assert sum(batch.pair_share for batch in batches) == pytest.approx(world_size)
        assert sum(batch.entity_share for batch in batches) == pytest.approx(world_size)
        assert all(len(batch.entity_ids) >= 1 for batch in batches)


def test_batches_depend_on_seed_and_epoch() -> None:
    def epoch(number: int, seed: int = 0) -> list[TrainingBatch]:
        loader = TrainingLoader(random_matrix(), batch_size=16, entities_per_step=9, seed=seed, epoch=lambda: number)
        return list(loader)

    for others in (epoch(1), epoch(0, seed=1)):
        for ours, theirs in zip(epoch(0), others, strict=True):
            assert not any(torch.equal(a, b) for a, b in zip(ours[:4], theirs[:4], strict=True))
    assert all(same(*pair) for pair in zip(epoch(0), epoch(0), strict=True))


@pytest.mark.parametrize(("world_size", "entities_per_step"), [(1, 12), (1, 50), (1, 80), (2, 7), (3, 1)])
def test_all_entities_of_a_kind_are_visited_before_any_repeats(world_size: int, entities_per_step: int) -> None:
    train, epoch = random_matrix(), [0]
    num_users, num_entities = train.shape[0], sum(train.shape)
    loaders = [
        TrainingLoader(
            train,
            batch_size=8,
            entities_per_step=entities_per_step,
            epoch=lambda: epoch[0],
            rank=rank,
            world_size=world_size,
        )
        for rank in range(world_size)
    ]
    seen: list[int] = []
    for epoch[0] in range(12):
        for batches in zip(*loaders, strict=True):
            ids = [batch.entity_ids.tolist() for batch in batches if batch.entity_share]
            assert max(len(part) for part in ids) <= entities_per_step
            seen += itertools.chain(*ids)
    for kind in (range(num_users), range(num_users, num_entities)):
        own, size = [entity for entity in seen if entity in kind], len(kind)
        rounds = [own[begin : begin + size] for begin in range(0, len(own) - size + 1, size)]
        assert len(rounds) > 1
        assert all(sorted(round_) == list(kind) for round_ in rounds)
        assert rounds[0] != rounds[1], "in another order"


@pytest.mark.parametrize(
    ("num_users", "num_items", "per_step", "items"), [(60, 4, 16, 4), (20, 60, 16, 12), (60, 20, 1, 1), (9, 9, 3, 2)]
)
def test_items_are_at_least_a_quarter_of_a_step(num_users: int, num_items: int, per_step: int, items: int) -> None:
    train = sp.csr_array(sp.random(num_users, num_items, density=0.3, random_state=0))
    batch = next(iter(TrainingLoader(train, batch_size=8, entities_per_step=per_step)))
    assert int((batch.entity_ids >= num_users).sum()) <= items
    assert int((batch.entity_ids >= num_users).sum()) >= items - 1  # sizes of parts differ by at most one
    assert 1 <= int((batch.entity_ids < num_users).sum()) <= max(1, per_step - items)


def test_no_entities_if_nothing_is_mapped() -> None:
    (batch,) = TrainingLoader(random_matrix(), batch_size=1000)
    assert batch.entity_ids.shape == (0,)
    assert batch.entity_ids.dtype == torch.int64


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("stop", [0, 1, 3])
@pytest.mark.parametrize("epoch", [0, 5])
def test_resume_in_mid_epoch_yields_the_remaining_batches(epoch: int, stop: int, rank: int) -> None:
    def loader(number: int = epoch) -> TrainingLoader:
        return TrainingLoader(
            random_matrix(),
            batch_size=8,
            entities_per_step=7,
            seed=3,
            epoch=lambda: number,
            rank=rank,
            world_size=2,
        )

    whole, interrupted, resumed = list(loader()), loader(), loader()
    list(itertools.islice(iter(interrupted), stop))
    resumed.load_state_dict(interrupted.state_dict())
    assert resumed.state_dict() == interrupted.state_dict(), "saving right after loading keeps the position"
    rest = list(resumed)
    assert all(same(*pair) for pair in zip(rest, whole[stop:], strict=True))
    assert len(list(resumed)) == len(whole), "the next epoch starts at the beginning"


def test_resume_after_a_finished_epoch_starts_the_next() -> None:
    loader, resumed = (TrainingLoader(random_matrix(), batch_size=16, epoch=lambda: 1) for _ in range(2))
    whole = list(loader)
    resumed.load_state_dict(loader.state_dict())
    assert all(same(*pair) for pair in zip(resumed, whole, strict=True))


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_evaluation_users_are_sharded_without_padding(world_size: int) -> None:
    train, valid = random_matrix(seed=1), random_matrix(density=0.05, seed=2)
    users: list[int] = []
    for rank in range(world_size):
        loader = EvaluationLoader(train, valid, batch_size=4, rank=rank, world_size=world_size)
        assert len(loader) == len(list(loader))
        for batch in loader:
            users += batch.user_ids.tolist()
            assert 1 <= len(batch.user_ids) <= 4
            cells = batch.relevant_rows * 20 + batch.relevant_items
            assert (cells.diff() > 0).all(), "sorted by row, then item, as find_hits requires"
            seen = np.zeros((len(batch.user_ids), 20))
            seen[batch.seen_rows, batch.seen_items] = 1
            np.testing.assert_array_equal(seen, train.toarray()[batch.user_ids.numpy()])
            relevant = np.zeros((len(batch.user_ids), 20))
            relevant[batch.relevant_rows, batch.relevant_items] = 1
            np.testing.assert_array_equal(relevant, valid.toarray()[batch.user_ids.numpy()])
    assert sorted(users) == np.flatnonzero(valid.toarray().any(1)).tolist()


@pytest.mark.parametrize(("num_entities", "per_step", "world_size"), [(50, 12, 1), (50, 60, 1), (50, 7, 2), (5, 4, 3)])
def test_entity_epoch_visits_every_entity_once(num_entities: int, per_step: int, world_size: int) -> None:
    orders = []
    for epoch in range(2):
        visited: list[int] = []
        sizes = {"entities_per_step": per_step, "epoch": lambda number=epoch: number, "world_size": world_size}
        loaders = [EntityLoader(num_entities, rank=rank, **sizes) for rank in range(world_size)]
        for batches in zip(*loaders, strict=True):
            assert sum(batch.entity_share for batch in batches) == pytest.approx(world_size)
            assert all(0 < len(batch.entity_ids) <= per_step and not len(batch.user_ids) for batch in batches)
            visited += [entity for batch in batches if batch.entity_share for entity in batch.entity_ids.tolist()]
        assert sorted(visited) == list(range(num_entities))
        orders.append(visited)
    assert orders[0] != orders[1]


def test_entity_steps_need_entities() -> None:
    with pytest.raises(ConfigurationError, match="entities_per_step: expected"):
        EntityLoader(50, entities_per_step=0)


def test_entity_epoch_is_resumed_exactly() -> None:
    whole = [batch.entity_ids.tolist() for batch in EntityLoader(50, entities_per_step=8)]
    stopped, resumed = EntityLoader(50, entities_per_step=8), EntityLoader(50, entities_per_step=8)
    start = [batch.entity_ids.tolist() for batch, _ in zip(stopped, range(3), strict=False)]
    resumed.load_state_dict({"next_step": 3})
    assert start + [batch.entity_ids.tolist() for batch in resumed] == whole


def test_both_of_two_processes_get_a_batch_for_one_user() -> None:
    relevant = sp.csr_array(np.eye(1, 5, dtype=np.float32))
    seen = sp.csr_array((1, 5), dtype=np.float32)
    loaders = [EvaluationLoader(seen, relevant, batch_size=4, rank=rank, world_size=2) for rank in range(2)]
    assert [len(loader) for loader in loaders] == [1, 1]
    assert [len(batch.user_ids) for loader in loaders for batch in loader] == [1, 0]
    empty = EvaluationLoader(seen, sp.csr_array((1, 5), dtype=np.float32), batch_size=4, world_size=2)
    assert len(empty) == len(list(empty)) == 0
