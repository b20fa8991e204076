"""The reference words that benchmarks.retrieval compares with those of a run."""

from types import SimpleNamespace

import torch

from benchmarks import retrieval


def test_words_of_a_text_are_its_rarest_and_those_of_the_vocabulary_alone() -> None:
    space = SimpleNamespace(
        word_vectors=SimpleNamespace(words=["film", "dragon", "castle", "robot"]),
        texts=SimpleNamespace(
            num_users=1,
            texts=["Robot robots film", "A film: dragon castle dragon", "Film of a Robot, nothing else", None],
        ),
    )
    found = retrieval.frequent_words(space, 2)  # type: ignore[arg-type]
    assert sorted(found[0]) == [0, 3]
    assert found[1] == [1, 2], "two dragons, and a castle that is rarer than film"
    assert found[2:] == [[3, 0], []]


def test_words_in_different_numbers_are_encoded_each_in_its_row() -> None:
    def encode(descriptors: torch.Tensor, entity_ids: torch.Tensor) -> torch.Tensor:
        return torch.stack([entity_ids.float(), descriptors.sum(1).float()], dim=1)

    space = SimpleNamespace(
        texts=SimpleNamespace(vectors=torch.zeros(4, 2)), descriptors=SimpleNamespace(encode=encode)
    )
    tokens, members = [[1, 2], [], [7], [3, 4]], torch.tensor([0, 1, 3])
    assert retrieval.encode(space, tokens, members).tolist() == [[0, 3], [1, 0], [3, 7]]  # type: ignore[arg-type]


def test_similarity_is_one_if_words_equal_the_text() -> None:
    vectors = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
    space = SimpleNamespace(word_vectors=SimpleNamespace(vectors=vectors), texts=SimpleNamespace(vectors=vectors))
    members = torch.arange(6)
    same = [[member] for member in range(6)]
    assert retrieval.similarity(space, same, members) > 0.999  # type: ignore[arg-type]
    shuffled = [[(member + 1) % 6] for member in range(6)]
    assert retrieval.similarity(space, shuffled, members) < 0.9  # type: ignore[arg-type]
    none = [*same[:5], []]
    assert retrieval.similarity(space, none, members) > 0.999, "who has no words takes no part"  # type: ignore[arg-type]
