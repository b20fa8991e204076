"""Tests of sentence encoders from plain language models: decoder-only ones, and BERT without pooling settings."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from face_lightning.errors import DataError
from face_lightning.text.encoders import TextEncoder
from face_lightning.text.models import VocabularyFiles
from face_lightning.text.vocabulary import build_codebook

SMOLLM2 = Path("~/.cache/face_lightning/models/SmolLM2-135M-Instruct").expanduser()
SHORT = "a toy and {words}"
LONG = "the robot and the ship and {words} and music"
DESCRIPTORS = [["dragon", "toy", "war"], ["love", "robot", "music"], ["ship", "crime", "magic"]]

TOKENIZERS = ["llama", "qwen2", "gpt2", "gemma3", "bert"]
DECODERS = [kind for kind in TOKENIZERS if kind != "bert"]


def embed(encoder: TextEncoder, rows: list[list[str]]) -> torch.Tensor:
    marks = {"sentencepiece": "▁", "bytelevel": "Ġ", "wordpiece": ""}
    mark = next(mark for mark in marks.values() if f"{mark}dragon" in encoder.tokenizer.get_vocab())
    ids = torch.tensor([encoder.tokenizer.convert_tokens_to_ids([mark + word for word in row]) for row in rows])
    return encoder.token_embeddings(ids.flatten()).view(*ids.shape, -1)


@pytest.mark.parametrize("pooling", ["auto", "mean", "lasttoken"])
@pytest.mark.parametrize("kind", TOKENIZERS)
def test_descriptors_encode_as_their_sentence(
    make_language_model: Callable[[str], Path], tmp_path: Path, kind: str, pooling: Any
) -> None:
    encoder = TextEncoder(str(make_language_model(kind)), "float32", tmp_path, pooling)
    prompts = [encoder.prompt(template) for template in (SHORT, LONG)]
    sentences = [
        template.format(words=" ".join(row)) for template, row in zip((SHORT, LONG, LONG), DESCRIPTORS, strict=True)
    ]
    vectors = encoder.encode_descriptors(embed(encoder, DESCRIPTORS), prompts, torch.tensor([0, 1, 1]))
    torch.testing.assert_close(vectors, encoder.encode(sentences), atol=1e-5, rtol=0)
    assert encoder.width == encoder.token_dim == 16
    assert not torch.allclose(vectors[0], vectors[1], atol=1e-2)


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_vectors_equal_the_model_of_transformers(
    make_language_model: Callable[[str], Path], tmp_path: Path, kind: str
) -> None:
    from transformers import AutoModel, AutoTokenizer

    folder = make_language_model(kind)
    model, tokenizer = AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    texts = ["a dragon and the war", "a toy", "the love and the music and the ocean and the crime"]
    with torch.no_grad():
        hidden = [model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0] for text in texts]
    expected = F.normalize(torch.stack([states.mean(0) for states in hidden]), dim=1)
    torch.testing.assert_close(TextEncoder(str(folder), "float32", tmp_path).encode(texts), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", DECODERS)
def test_gradient_reaches_every_word_and_no_weight(
    make_language_model: Callable[[str], Path], tmp_path: Path, kind: str
) -> None:
    encoder = TextEncoder(str(make_language_model(kind)), "float32", tmp_path)
    words = embed(encoder, DESCRIPTORS).requires_grad_()
    prompts = [encoder.prompt(LONG)]
    direction = torch.randn(16, generator=torch.Generator().manual_seed(0))
    score = (encoder.encode_descriptors(words, prompts, torch.zeros(3, dtype=torch.long))[1] * direction).sum()
    (gradient,) = torch.autograd.grad(score, words)
    assert (gradient[[0, 2]] == 0).all()
    assert (gradient[1].abs().sum(1) > 0).all()
    step = torch.zeros_like(words)
    step[1] = F.normalize(gradient[1].flatten(), dim=0).view_as(step[1]) * 1e-3
    with torch.no_grad():
        ahead, behind = (
            (encoder.encode_descriptors(words + sign * step, prompts, torch.zeros(3, dtype=torch.long))[1] * direction)
            for sign in (1, -1)
        )
    torch.testing.assert_close((ahead - behind).sum() / 2e-3, gradient.norm(), rtol=0.03, atol=1e-3)
    assert not any(parameter.requires_grad for parameter in encoder._sentence_transformer().parameters())


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_other_number_formats_are_close(
    make_language_model: Callable[[str], Path], tmp_path: Path, precision: Any
) -> None:
    folder = str(make_language_model("llama"))
    exact = TextEncoder(folder, "float32", tmp_path)
    rounded = TextEncoder(folder, precision, tmp_path)
    words, ids = embed(exact, DESCRIPTORS), torch.zeros(3, dtype=torch.long)
    ours = exact.encode_descriptors(words, [exact.prompt(SHORT)], ids)
    theirs = rounded.encode_descriptors(words.requires_grad_(), [rounded.prompt(SHORT)], ids)
    assert (F.cosine_similarity(ours, theirs) > 0.99).all()
    assert not torch.equal(ours, theirs)
    theirs[:, 0].sum().backward()
    assert words.grad is not None
    assert words.grad.isfinite().all()
    assert words.grad.abs().sum() > 0


def test_pooling_is_part_of_the_key(make_language_model: Callable[[str], Path], tmp_path: Path) -> None:
    folder = str(make_language_model("llama"))
    last, mean = (TextEncoder(folder, "float32", tmp_path, pooling) for pooling in ("lasttoken", "mean"))
    assert last.identity != mean.identity
    assert not torch.allclose(last.encode(["a dragon"]), mean.encode(["a dragon"]), atol=1e-3)
    assert torch.equal(TextEncoder(folder, "float32", tmp_path).encode(["a dragon"]), mean.encode(["a dragon"]))


def test_pooling_of_a_sentence_encoder_can_be_replaced(tiny_model: Path, tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer

    plain = SentenceTransformer(str(tiny_model), device="cpu")
    hidden = plain.encode(["the toy"], output_value="token_embeddings")[0]
    expected = F.normalize(hidden[:1], dim=1)
    encoder = TextEncoder(str(tiny_model), "float32", tmp_path, "cls")
    torch.testing.assert_close(encoder.encode(["the toy"]), expected.cpu(), atol=1e-5, rtol=0)
    assert encoder.width == 16


def test_codebook_and_encoder_of_one_sharded_model(make_language_model: Callable[[str], Path], tmp_path: Path) -> None:
    folder = make_language_model("llama")
    assert (folder / "model.safetensors.index.json").is_file()
    words = tmp_path / "words.txt"
    words.write_text("dragon\ntoy\nwar\n")
    encoder = TextEncoder(str(folder), "float32", tmp_path)
    codebook, _ = build_codebook(VocabularyFiles(str(folder), tmp_path), word_list=words)
    weight = encoder._sentence_transformer()[0].auto_model.get_input_embeddings().weight
    assert torch.equal(codebook.token_embeddings, weight[codebook.token_ids])


def test_a_folder_without_weights_is_reported_in_one_line(make_vocabulary: Callable[..., Path], tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(make_vocabulary("bytelevel"), folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(DataError, match=r"model: .* cannot be loaded") as caught:
        TextEncoder(str(folder), cache_dir=tmp_path).encode(["a"])
    assert "\n" not in str(caught.value)


@pytest.mark.slow
@pytest.mark.skipif(not SMOLLM2.is_dir(), reason="needs SmolLM2: python -m benchmarks.smollm2")
def test_smollm2_encodes_descriptors_as_their_sentence(tmp_path: Path) -> None:
    encoder = TextEncoder(str(SMOLLM2), "float32", tmp_path)
    templates = ["A movie: {words}", "A user who likes: {words}"]
    prompts = [encoder.prompt(template) for template in templates]
    rows = [["dragon", "castle", "magic"], ["space", "robot", "war"]]
    sentences = [template.format(words=" ".join(row)) for template, row in zip(templates, rows, strict=True)]
    words = embed(encoder, rows).requires_grad_()
    vectors = encoder.encode_descriptors(words, prompts, torch.tensor([0, 1]))
    torch.testing.assert_close(vectors, encoder.encode(sentences), atol=1e-4, rtol=0)
    vectors[:, 0].sum().backward()
    assert words.grad is not None
    assert (words.grad.abs().sum(2) > 0).all()
    assert (encoder.width, encoder.token_dim) == (576, 576)


@pytest.mark.slow
@pytest.mark.skipif(not SMOLLM2.is_dir(), reason="needs SmolLM2: python -m benchmarks.smollm2")
def test_smollm2_has_thousands_of_words(tmp_path: Path) -> None:
    codebook, report = build_codebook(VocabularyFiles(str(SMOLLM2), tmp_path))
    assert (report.family, report.num_tokens) == ("byte-level BPE", 49_152)
    assert report.num_common == pytest.approx(9_241, rel=0.02)  # versions of the sources differ a little
    assert {"dragon", "dinosaur", "castle"} <= set(codebook.words)
    assert codebook.token_embeddings.shape == (report.num_words, 576)
