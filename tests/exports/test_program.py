import pytest
import torch

from face_lightning.exports.program import DescriptorProgram
from face_lightning.mapping.mapper import TokenMapper


@pytest.mark.parametrize("similarity", ["cosine", "l2"])
@pytest.mark.parametrize("num_lemmas", [60, 7])
def test_the_program_chooses_the_mapper_s_words_and_no_lemma_twice(similarity: str, num_lemmas: int) -> None:
    torch.manual_seed(0)
    sizes = {"num_descriptors": 5, "concept_dim": 16, "hidden_dim": 48, "feedforward_dim": 32, "similarity": similarity}
    mapper = TokenMapper(torch.randn(60, 24), 10, **sizes).eval()  # type: ignore[arg-type]
    lemmas = torch.arange(60) % num_lemmas
    mapper.distinguish(lemmas)
    embeddings = torch.randn(40, 10)
    with torch.no_grad():
        words = DescriptorProgram(mapper)(embeddings)
    assert torch.equal(words, mapper.describe([embeddings]))
    assert all(len(set(row)) == 5 for row in lemmas[words].tolist())
