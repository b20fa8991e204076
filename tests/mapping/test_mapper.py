"""Tests of the mapper: shapes, errors, and the check of its vocabulary."""

import pytest
import torch

from face_lightning.errors import CheckpointError, ConfigurationError
from face_lightning.mapping.mapper import TokenMapper


def table(num_words: int = 60, seed: int = 0) -> torch.Tensor:
    return torch.randn(num_words, 24, generator=torch.Generator().manual_seed(seed))


def small(**options) -> TokenMapper:
    torch.manual_seed(0)
    sizes = {"num_descriptors": 4, "concept_dim": 16, "hidden_dim": 48, "feedforward_dim": 32}
    return TokenMapper(table(), 10, **{**sizes, **options})


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"num_levels": 3},
        {"num_layers": 0},
        {"hidden_dim": 0},
        {"shared_projection": True},
        {"gradient": "rotation"},
        {"whiten_input": False},
        {
            "normalize_input": False,
            "whiten_input": False,
            "normalize_codebook": False,
            "similarity": "l2",
            "hidden_dim": 0,
            "dropout": 0.1,
        },
    ],
    ids=["ours", "levels", "no transformer", "no hidden layer", "shared", "rotation", "unwhitened", "paper"],
)
def test_every_variant_trains_all_parameters(options) -> None:
    mapper = small(**options)
    mapped = mapper(torch.randn(7, 10))
    assert mapped.concepts.shape == (7, 4, 16)
    assert mapped.quantized.indices.shape == (options.get("num_levels", 1), 7, 4)
    assert mapped.reconstruction.shape == mapped.target.shape == (7, 10)
    assert all(len(set(row)) == 4 for row in mapped.quantized.indices[0].tolist())
    loss = (mapped.reconstruction - mapped.target).square().mean()
    (loss + mapped.quantized.codebook_loss + mapped.quantized.commitment_loss).backward()
    for name, parameter in mapper.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


@pytest.mark.parametrize("similarity", ["cosine", "l2"])
def test_words_of_an_entity_have_different_lemmas(similarity: str) -> None:
    mapper, lemmas = small(similarity=similarity, num_levels=2).eval(), torch.arange(60) % 5
    mapper.distinguish(lemmas)
    for level in mapper(torch.randn(50, 10)).quantized.indices:
        assert all(len(set(row)) == 4 for row in lemmas[level].tolist())
    assert not any("lemmas" in name for name in mapper.state_dict()), "lemmas belong to the vocabulary"
    with pytest.raises(ConfigurationError, match="num_descriptors: expected at most 3, the lemmas"):
        mapper.distinguish(torch.arange(60) % 3)


def test_quantizing_some_rows_equals_quantizing_all() -> None:
    mapper, embeddings, rows = small().eval(), torch.randn(7, 10), torch.tensor([1, 4, 5])
    every, some = mapper(embeddings), mapper(embeddings, rows)
    torch.testing.assert_close(some.concepts, every.concepts)
    assert torch.equal(some.rows, rows)
    assert torch.equal(some.quantized.indices, every.quantized.indices[:, rows])
    torch.testing.assert_close(some.target, every.target[rows])
    torch.testing.assert_close(some.reconstruction, every.reconstruction[rows], rtol=1e-4, atol=1e-5)


def test_input_and_target_are_layer_normalised_by_default() -> None:
    embeddings = torch.randn(3, 10, generator=torch.Generator().manual_seed(0)) * 7 + 2
    centered = embeddings - embeddings.mean(1, keepdim=True)
    normal = centered / centered.square().mean(1, keepdim=True).sqrt()
    mapped = small().eval()(embeddings.requires_grad_())
    torch.testing.assert_close(mapped.target, normal, rtol=1e-4, atol=1e-4)
    assert not mapped.target.requires_grad, "no gradient to the backbone by the target"
    raw = small(normalize_input=False, whiten_input=False).eval()
    assert torch.equal(raw(embeddings).target, embeddings)


def anisotropic(num: int = 200) -> torch.Tensor:
    """Embeddings like those of graph backbones: near a common mean, with variance along few directions."""
    spread = torch.diag(torch.logspace(0, -4, 10))
    return torch.randn(num, 10, generator=torch.Generator().manual_seed(0)) @ spread + 3 * torch.ones(10).cumsum(0)


def test_input_whitening_is_fitted_once_and_scale_invariant() -> None:
    mapper, embeddings = small().eval(), anisotropic()
    before = mapper(embeddings).target
    mapper.fit_input(embeddings.split(64))
    white = mapper(embeddings).target
    strength = [torch.linalg.svdvals(rows - rows.mean(0)) for rows in (before, white)]
    assert strength[0][7] / strength[0][0] < 0.01
    assert strength[1][7] / strength[1][0] > 10 * strength[0][7] / strength[0][0]
    # Equal up to rounding, since layer norm removes the scale.
    torch.testing.assert_close(mapper(0.2 * embeddings).target, white, rtol=1e-2, atol=1e-2)
    mapper.fit_input([torch.randn(50, 10)])
    assert torch.equal(mapper(embeddings).target, white), "the whitening is fitted once"
    again = small().eval()
    again.load_state_dict(mapper.state_dict())
    again.fit_input([torch.randn(50, 10)])
    assert torch.equal(again(embeddings).target, white), "the whitening is restored from the state"


def test_encode_quantize_decode_equal_forward() -> None:
    mapper, embeddings = small(num_levels=2).eval(), torch.randn(6, 10)
    mapped = mapper(embeddings)
    torch.testing.assert_close(mapped.concepts, mapper.encode(embeddings))
    torch.testing.assert_close(mapped.concepts.norm(dim=-1), torch.ones(6, 4))
    torch.testing.assert_close(mapped.reconstruction, mapper.decode(mapped.quantized.quantized))
    assert torch.equal(mapper.describe([embeddings]), mapped.quantized.indices[0]), "descriptors are level 0"


def test_describe_is_deterministic_and_independent_of_batches() -> None:
    mapper, embeddings = small().eval(), torch.randn(9, 10)
    assert torch.equal(mapper.describe([embeddings]), mapper.describe(embeddings.split(2)))


def test_training_reconstructs_and_keeps_words_in_use() -> None:
    mapper, embeddings = small(), torch.randn(64, 10, generator=torch.Generator().manual_seed(1))
    optimizer = torch.optim.Adam(mapper.parameters(), 3e-3)
    first = last = 0.0
    for step in range(150):
        mapped = mapper(embeddings)
        loss = (mapped.reconstruction - mapped.target).square().mean()
        optimizer.zero_grad()
        (loss + 0.1 * mapped.quantized.codebook_loss + 0.05 * mapped.quantized.commitment_loss).backward()
        optimizer.step()
        first, last = (loss.item() if step == 0 else first), loss.item()
    assert last < 0.5 * first
    assert len(mapper.eval().describe([embeddings]).unique()) > 30, "half of the words are in use: no collapse"


def test_more_descriptors_than_words_raise() -> None:
    with pytest.raises(ConfigurationError, match="num_descriptors: expected 1 to 60"):
        small(num_descriptors=61)


def test_more_dimensions_than_the_rank_of_the_codebook_raise() -> None:
    with pytest.raises(ConfigurationError, match="concept_dim: expected at most 24"):
        small(concept_dim=25)


def test_loading_a_mapper_of_another_vocabulary_raises() -> None:
    other = TokenMapper(table(seed=1), 10, num_descriptors=4, concept_dim=16, hidden_dim=48, feedforward_dim=32)
    with pytest.raises(CheckpointError, match="another vocabulary"):
        small().load_state_dict(other.state_dict())
    small().load_state_dict(small().state_dict())


def test_codebook_variants() -> None:
    tokens, random, learned = (small(codebook=kind) for kind in ("tokens", "random", "learned"))
    assert not torch.equal(tokens.quantizer.codebook, random.quantizer.codebook)
    torch.testing.assert_close(random.quantizer.codes().norm(dim=1), torch.ones(60))
    assert torch.equal(tokens.quantizer.codebook, learned.quantizer.codebook)
    assert "quantizer.codebook" not in {**tokens.state_dict(), **random.state_dict()}
    assert "quantizer.codebook" in learned.state_dict()
    learned(torch.randn(9, 10)).quantized.codebook_loss.backward()
    assert learned.quantizer.codebook.grad.abs().sum() > 0
    assert torch.equal(random.quantizer.codebook, small(codebook="random").quantizer.codebook), "fixed seed"


@pytest.mark.parametrize("fast", [True, False])
def test_training_uses_the_fast_format_and_evaluation_float32(fast, monkeypatch) -> None:
    monkeypatch.setattr("face_lightning.hardware.has_bfloat16", lambda device: fast)
    mapper, embeddings = small(), torch.randn(7, 10, generator=torch.Generator().manual_seed(0))
    seen: list[torch.dtype] = []
    mapper.encoder.layers[0].linear1.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    trained, evaluated = mapper(embeddings), mapper.eval()(embeddings)
    assert seen == [torch.bfloat16 if fast else torch.float32, torch.float32]
    for mapped in (trained, evaluated):
        assert {mapped.concepts.dtype, mapped.codes.dtype, mapped.reconstruction.dtype} == {torch.float32}
    torch.testing.assert_close(trained.concepts, evaluated.concepts, rtol=0, atol=0.03 if fast else 1e-6)
    assert torch.equal(trained.concepts, evaluated.concepts) is not fast
    exact = small(precision="float32")
    exact.load_state_dict(mapper.state_dict())
    assert torch.equal(exact(embeddings).concepts, evaluated.concepts)
