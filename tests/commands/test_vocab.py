import json
import resource
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from face_lightning.cli import main
from face_lightning.text.vocabulary import load_codebook


@pytest.fixture
def model(tmp_path: Path) -> Path:
    from transformers import BertTokenizerFast

    folder = tmp_path / "model"
    entries = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "toy", "toys", "dragon", "war", "anime", "##s"]
    BertTokenizerFast(vocab={entry: i for i, entry in enumerate(entries)}).save_pretrained(folder)
    tensors = {"embeddings.word_embeddings.weight": torch.randn(len(entries), 8)}
    save_file(tensors, folder / "model-00001-of-00001.safetensors")
    index = {"weight_map": dict.fromkeys(tensors, "model-00001-of-00001.safetensors")}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


@pytest.fixture
def build(model: Path, tmp_path: Path) -> Callable[..., int]:
    for package in ("wordfreq", "lemminflect", "textblob"):
        pytest.importorskip(package)

    def run(*arguments: str, name: Path = model) -> int:
        where = ["--model", str(name), "--out", str(tmp_path / "out"), "--cache_dir", str(tmp_path / "cache")]
        return main(["vocab", "build", *where, *arguments])

    return run


def test_a_codebook_with_its_report(
    build: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = tmp_path / "texts.jsonl"
    texts.write_text(
        '{"text": "a dragon anime"}\n{"text": "war and anime, samurai"}\n{"text": null}\n'
        '{"text": "Of the."}\n{"text": "And so."}\n'
    )
    assert build("--texts", str(texts), "--min_count", "1") == 0
    codebook, report = load_codebook(tmp_path / "out" / "codebook.safetensors")
    assert codebook.words == ("toy", "toys", "dragon", "war", "anime")
    assert (tmp_path / "out" / "words.txt").read_text().split() == list(codebook.words)
    saved = json.loads((tmp_path / "out" / "report.json").read_text())
    assert (saved["num_words"], saved["num_extra"], saved["family"]) == (report.num_words, 1, "WordPiece")
    assert (saved["coverage"]["num_words"], saved["coverage"]["num_covered"]) == (4, 3)
    assert saved["coverage"]["missing"] == [["samurai", 1]]
    assert saved["near_duplicates"]["num_inflections"] == 1
    shown = capsys.readouterr().out
    assert "3 of 4 are covered, 80.0% of their occurrences in 4 texts" in shown
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "codebook.safetensors",
        "report.json",
        "words.txt",
    ]


def test_base_forms_and_lengths(build: Callable[..., int], tmp_path: Path) -> None:
    assert build("--base_forms") == 0
    assert (tmp_path / "out" / "words.txt").read_text().split() == ["toy", "dragon", "war"]
    assert build("--min_length", "4") == 0
    assert (tmp_path / "out" / "words.txt").read_text().split() == ["toys", "dragon"]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda model: (model / "model-00001-of-00001.safetensors").unlink(), "download that shard"),
        (lambda model: [path.unlink() for path in model.glob("model*")], "expected a safetensors file"),
        (lambda model: [path.unlink() for path in model.glob("tok*")], "its folder needs tokenizer.json"),
    ],
)
def test_a_model_that_lacks_a_part_is_reported_in_one_line(
    build: Callable[..., int],
    model: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    damage: Callable[[Path], object],
    message: str,
) -> None:
    damage(model)
    assert build() == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_tokenizer_without_whole_words_is_reported_in_one_line(
    build: Callable[..., int], model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    letters = {letter: i for i, letter in enumerate(["<unk>", *"abcde"])}
    tokenizer = Tokenizer(models.BPE(vocab=letters, merges=[], unk_token="<unk>"))
    for path in model.glob("tok*"):
        path.unlink()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>").save_pretrained(model)
    assert build() == 2
    error = capsys.readouterr().err
    assert "expected a tokenizer with whole words of at least 3 letters a-z, got 6 entries without any" in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--texts", "none.jsonl"], "texts: cannot read"),
        (["--word_list", "none.csv"], "word_list: cannot read"),
        (["--block", "none.txt"], "block: cannot read"),
        (["--num_frequent", "many"], "invalid int value"),
    ],
)
def test_bad_arguments_are_reported_in_one_line(
    build: Callable[..., int], capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert build(*arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_a_full_disk_leaves_nothing(
    build: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Files are limited to 64 bytes."""
    before, limits = sorted(tmp_path.iterdir()), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64, limits[1]))
    try:
        code = build()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    error = capsys.readouterr().err
    assert code == 2
    assert error.startswith("face: error: disk: File too large; make room")
    assert error.count("\n") == 1
    assert [path for path in sorted(tmp_path.iterdir()) if path.name != "cache"] == before


def test_a_full_disk_keeps_the_old_codebook(
    build: Callable[..., int],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert build() == 0
    assert build("--min_length", "4") == 0  # both are in the cache
    assert build() == 0
    before = {path: path.read_bytes() for path in (tmp_path / "out").iterdir()}

    def fill(*_: object, **__: object) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("face_lightning.text.cache.save_file", fill)
    capsys.readouterr()
    assert build("--min_length", "4") == 2
    assert "(No space left on device); make room, or give another --out" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "model", "out"]


@pytest.mark.parametrize("kind", ["words alone", "link", "folder"])
def test_files_of_the_user_in_the_output_folder_are_kept(
    build: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    """A folder with a file that has the name of a vocabulary file, and a link to one."""
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "words.txt").write_text("mine")
    (tmp_path / "out").symlink_to("own") if kind == "link" else (tmp_path / "own").rename(tmp_path / "out")
    if kind == "folder":
        (tmp_path / "out" / "codebook.safetensors").mkdir()
    assert build() == 2
    assert "out: expected a" in capsys.readouterr().err
    assert (tmp_path / "out" / "words.txt").read_text() == "mine"


def test_a_folder_with_other_files_is_rejected(
    build: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "words.txt").write_text("mine")
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    assert build() == 2
    assert "out: expected an empty folder or a vocabulary, but" in capsys.readouterr().err
    assert (tmp_path / "out" / "words.txt").read_text() == "mine"
