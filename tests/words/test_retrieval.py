"""Tests of the retrieval test against brute force over all candidate sets."""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from face_lightning.words.entity_texts import EntityTexts
from face_lightning.words.retrieval import CANDIDATES, measure_retrieval, num_better


class Space(NamedTuple):
    """Texts, and fixed word vectors in place of an encoder."""

    words: Tensor
    texts: EntityTexts

    @classmethod
    def of(cls, words: Tensor, texts: Tensor, num_users: int, classes: Tensor) -> "Space":
        present = torch.ones(len(texts), dtype=torch.bool)
        return cls(words, EntityTexts(num_users, [""] * len(texts), [""] * len(texts), texts, present, classes))

    def encode(self, descriptors: Tensor, entity_ids: Tensor) -> Tensor:
        return self.words[entity_ids]

    def measure(self, num_candidates: Sequence[int] = CANDIDATES, limit: int = 4096) -> dict[str, Tensor]:
        descriptors = torch.zeros(len(self.words), 2, dtype=torch.long)
        return measure_retrieval(descriptors, self, self.texts, limit, num_candidates)  # type: ignore[arg-type]


def brute_force(space: Space, members: list[int], num_candidates: int) -> float:
    """Share of candidate sets, over all members, in which no other text is at least as near as the own one."""
    right = []
    for own in members:
        others = [other for other in members if other != own]
        for drawn in itertools.combinations(others, num_candidates - 1):
            rivals = [other for other in drawn if space.texts.classes[other] != space.texts.classes[own]]
            scores = [float(space.words[own] @ space.texts.vectors[other]) for other in rivals]
            right.append(float(space.words[own] @ space.texts.vectors[own]) > max(scores, default=-2.0))
    return sum(right) / len(right)


def random_space(seed: int, num_users: int, num_items: int) -> Space:
    generator, total = torch.Generator().manual_seed(seed), num_users + num_items
    words = F.normalize(torch.randn(total, 5, generator=generator), dim=1)
    classes = torch.randint(0, total, (total,), generator=generator)  # some have the same text
    texts = F.normalize(torch.randn(total, 5, generator=generator)[classes] + 0.3 * words[classes], dim=1)
    return Space.of(words, texts, num_users, classes)


@pytest.mark.parametrize("seed", range(3))
def test_retrieval_is_the_expectation_over_all_candidate_sets(seed: int) -> None:
    space = random_space(seed, num_users=5, num_items=8)
    space.texts.present[[1, 7]] = False  # without text: neither query nor candidate
    found = space.measure((2, 3, 4))
    for kind, members in (("users", [0, 2, 3, 4]), ("items", [5, 6, 8, 9, 10, 11, 12])):
        for num_candidates in (2, 3, 4):
            expected = brute_force(space, members, num_candidates)
            assert found[f"retrieval_{kind}@{num_candidates}"].item() == pytest.approx(expected)


def test_retrieval_requires_as_many_entities_as_candidates() -> None:
    space = random_space(0, num_users=3, num_items=4)
    assert set(space.measure((4, 5))) == {"retrieval_items@4"}
    assert set(space.measure((3, 4))) == {"retrieval_users@3", "retrieval_items@3", "retrieval_items@4"}


def test_default_numbers_of_candidates_are_those_of_the_paper() -> None:
    space = random_space(0, num_users=45, num_items=60)
    counts = {"users": (10, 20, 40), "items": (10, 20, 40, 60)}
    found = space.measure()
    assert set(found) == {f"retrieval_{kind}@{count}" for kind in counts for count in counts[kind]}
    for kind, sizes in counts.items():
        shares = [found[f"retrieval_{kind}@{count}"].item() for count in sizes]
        assert shares == sorted(shares, reverse=True), "accuracy decreases with the number of candidates"


def test_members_are_evenly_spaced_above_the_limit() -> None:
    space = random_space(1, num_users=0, num_items=12)
    found = space.measure((3,), limit=5)
    assert found["retrieval_items@3"].item() == pytest.approx(brute_force(space, [0, 3, 6, 9], 3))


@pytest.mark.parametrize("tied", [False, True])
def test_ties_with_another_text_are_errors(tied: bool) -> None:
    words = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    texts = torch.tensor([[1.0, 0.0], [1.0, 0.0]]) if tied else words
    better = num_better(words, texts, torch.arange(2))
    assert better.tolist() == ([1, 1] if tied else [0, 0])


def test_num_better_counts_across_tiles() -> None:
    generator = torch.Generator().manual_seed(0)
    queries, keys = torch.randn(2100, 4, generator=generator), torch.randn(2100, 4, generator=generator)
    classes = torch.randint(0, 50, (2100,), generator=generator)
    rows = [0, 1023, 1024, 2099]
    better = num_better(queries, keys, classes)
    for row in rows:
        scores = (queries[row] * keys).sum(1)
        assert better[row] == ((scores >= scores[row]) & (classes != classes[row])).sum()


def test_identical_texts_are_not_errors() -> None:
    vectors = F.normalize(torch.tensor([[1.0, 0], [1, 0], [0, 1], [0, 1]]), dim=1)
    space = Space.of(vectors, vectors, num_users=0, classes=torch.tensor([0, 0, 1, 1]))
    assert space.measure((2,)) == {"retrieval_items@2": torch.tensor(1.0).double()}
