"""Health of words and the retrieval test, against hand counts and brute force."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from face_lightning.mapping.anchoring import LexicalTargets
from face_lightning.stages.base import _plain
from face_lightning.stages.words import WordSpace, codebook_health, gather_entities
from face_lightning.types import Embeddings


def test_health_of_words_spread_evenly() -> None:
    health = codebook_health(torch.tensor([[0, 1], [2, 3], [4, 5]]), num_codes=12)
    assert health["perplexity"].item() == pytest.approx(6.0)
    assert health["active"] == 6
    assert health["active_fraction"].item() == pytest.approx(0.5)
    assert health["top_word_share"].item() == pytest.approx(1 / 3)
    assert health["duplicate_rate"] == 0


def test_health_shows_a_collapse() -> None:
    health = codebook_health(torch.tensor([[7, 8]] * 99 + [[8, 7]]), num_codes=1000)
    assert health["perplexity"].item() == pytest.approx(2.0)
    assert health["active"] == 2
    assert health["top_word_share"] == 1
    assert health["duplicate_rate"] == 1, "the order of words makes no other set"


def test_perplexity_is_the_exponential_of_entropy() -> None:
    health = codebook_health(torch.tensor([[0], [0], [0], [1]]), num_codes=2)
    entropy = -(3 / 4 * math.log(3 / 4) + 1 / 4 * math.log(1 / 4))
    assert health["perplexity"].item() == pytest.approx(math.exp(entropy))


def test_entities_are_gathered_from_both_tables() -> None:
    users, items = torch.randn(3, 4), torch.randn(5, 4)
    ids = torch.tensor([0, 2, 3, 7])
    expected = torch.cat([users, items])[ids]
    assert torch.equal(gather_entities(Embeddings(users, items), ids), expected)


class FixedSpace(WordSpace):
    """A word space whose sentence vectors are given, so that no encoder is needed."""

    def __init__(self, spoken: Tensor, written: Tensor, num_users: int, classes: Tensor) -> None:
        self.spoken, self.vectors, self.num_users, self.classes = spoken, written, num_users, classes
        self.present = torch.ones(len(written), dtype=torch.bool)
        self.retrieval_limit = 4096
        self.targets = LexicalTargets(torch.empty(0), torch.empty(0))

    def encode_descriptors(self, descriptors: Tensor, entity_ids: Tensor, batch_size: int = 256) -> Tensor:
        return self.spoken[entity_ids]


@pytest.mark.parametrize("seed", range(3))
def test_retrieval_is_the_expectation_over_all_candidate_sets(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    num_users, num_items, num_candidates = 4, 7, 3
    total = num_users + num_items
    spoken = F.normalize(torch.randn(total, 5, generator=generator), dim=1)
    written = F.normalize(torch.randn(total, 5, generator=generator) + spoken, dim=1)
    space = FixedSpace(spoken, written, num_users, torch.arange(total))
    found = space.retrieval(torch.zeros(total, 2, dtype=torch.long), num_candidates)
    for kind, members in (("users", range(num_users)), ("items", range(num_users, total))):
        right = []
        for own in members:
            others = [other for other in members if other != own]
            for drawn in itertools.combinations(others, num_candidates - 1):
                scores = [float(spoken[own] @ written[other]) for other in drawn]
                right.append(float(spoken[own] @ written[own]) > max(scores))
        assert found[f"retrieval_{kind}@{num_candidates}"].item() == pytest.approx(sum(right) / len(right))


def test_the_same_text_is_no_wrong_answer() -> None:
    vectors = F.normalize(torch.tensor([[1.0, 0], [1, 0], [0, 1], [0, 1]]), dim=1)
    space = FixedSpace(vectors, vectors, num_users=0, classes=torch.tensor([0, 0, 1, 1]))
    assert space.retrieval(torch.zeros(4, 2, dtype=torch.long), 2) == {"retrieval_items@2": torch.tensor(1.0).double()}


def test_only_plain_values_stay_in_hyper_parameters() -> None:
    kept = _plain({"a": 1, "b": [1.5, "x", None], "c": torch.zeros(1), "d": {"e": object()}, "f": (True,)})
    assert kept == {"a": 1, "b": [1.5, "x", None], "c": None, "d": {"e": None}, "f": [True]}
