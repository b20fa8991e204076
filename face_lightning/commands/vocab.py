"""`face vocab build`: build the vocabulary of descriptors from a language model."""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from face_lightning.commands import CommandParser
from face_lightning.commands.steps import Steps
from face_lightning.errors import ConfigurationError, DataError
from face_lightning.files import temporary_path
from face_lightning.plain_text import as_text
from face_lightning.text.coverage import coverage, near_duplicates
from face_lightning.text.lexicon import frequent_words
from face_lightning.text.models import VocabularyFiles
from face_lightning.text.text_files import read_texts
from face_lightning.text.vocabulary import (
    Codebook,
    CodebookReport,
    build_codebook,
    save_codebook,
)

_FILES = ("codebook.safetensors", "words.txt", "report.json")
_STEPS = {
    "num_tokens": "tokens of the tokenizer",
    "num_whole_words": "whole words of the letters a-z, long enough",
    "num_common": "of these, nouns and adjectives of the word list",
    "num_extra": "added because they are frequent in the texts",
    "num_blocked": "blocked",
    "num_inflected": "not base forms",
    "num_unreachable": "encoded as other tokens in running text",
    "num_words": "words of the codebook",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Build a codebook from a model's files, and report the counts after each filter.

    Args:
        argv: Arguments after `face vocab`; `sys.argv[1:]` if None.

    Returns:
        Exit code 0.

    Raises:
        ConfigurationError: If the arguments are wrong.
        DataError: If the model has no whole words or no safetensors, or a file cannot be read or written.
    """
    arguments = _parser().parse_args(argv)
    _check_out(arguments.out)
    with Steps(4) as step:
        step("reading texts")
        texts = [text for path in arguments.texts for text in read_texts(path)]
        least = arguments.min_count or max(10, len(texts) // 500)
        step(f"selecting words of {arguments.model}")
        source = VocabularyFiles(arguments.model, arguments.cache_dir)
        codebook, report = build_codebook(
            source,
            num_frequent=arguments.num_frequent,
            min_length=arguments.min_length,
            word_list=arguments.word_list,
            block=None if arguments.no_block else arguments.block or "default",
            extra_words=frequent_words(texts, least) if texts else (),
            base_forms=arguments.base_forms,
        )
        step("measuring coverage and near-duplicates")
        contents: dict[str, Any] = {"model": arguments.model, "token_dim": source.token_dim, **asdict(report)}
        contents["fingerprint"] = codebook.fingerprint
        contents["coverage"] = asdict(coverage(codebook.words, texts)) if texts else None
        contents["near_duplicates"] = asdict(near_duplicates(codebook, arguments.near))
        step("writing")
        _write(arguments.out, contents, codebook, report)
    show(contents, Console())
    print(f"{arguments.out}: codebook.safetensors, words.txt and report.json")
    return 0


def show(contents: dict[str, Any], console: Console) -> None:
    """Print the report of a codebook.

    Args:
        contents: Contents of report.json.
        console: Console to print to.
    """
    table = Table(f"{as_text(contents['model'])}: {contents['family']}, token_dim {contents['token_dim']}", "words")
    for name, meaning in _STEPS.items():
        sign = "-" if name in ("num_blocked", "num_inflected", "num_unreachable") and contents[name] else ""
        table.add_row(meaning, f"{sign}{contents[name]:,}")
    console.print(table)
    covered, near = contents["coverage"], contents["near_duplicates"]
    if covered is not None:
        print(
            f"content words of the texts: {covered['num_covered']:,} of {covered['num_words']:,} are covered, "
            f"{covered['share_of_occurrences']:.1%} of their occurrences in {covered['num_texts']:,} texts"
        )
        print("most frequent missing words: " + ", ".join(f"{word} {count}" for word, count in covered["missing"][:10]))
    pairs = ", ".join(f"{one}/{other}" for one, other, _ in near["pairs"][:6]) or "none"
    print(
        f"near-duplicates: {near['num_inflections']:,} words whose base form is included, {near['num_near']:,} pairs "
        f"with a cosine of at least {near['threshold']}: {pairs}"
    )


def _parser() -> argparse.ArgumentParser:
    parser = CommandParser(prog="face vocab", description="Build the vocabulary of descriptors.")
    commands = parser.add_subparsers(required=True, metavar="build")
    build = commands.add_parser("build", help="collect whole words of a model and their embeddings")
    build.add_argument(
        "--model", default="all-MiniLM-L6-v2", help="folder, bundled model, or hub id; only safetensors are read"
    )
    build.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="folder to write the codebook to")
    build.add_argument(
        "--texts",
        type=Path,
        nargs="+",
        default=[],
        metavar="FILE",
        help="summaries (.jsonl with the field text, or .txt): their frequent words are added, and coverage reported",
    )
    build.add_argument(
        "--min_count",
        type=int,
        metavar="N",
        help="minimum number of texts with a word that is added (default: 1 in 500, >= 10)",
    )
    build.add_argument("--num_frequent", type=int, default=20_000, metavar="N", help="frequent words to consider")
    build.add_argument("--min_length", type=int, default=3, metavar="N", help="minimum number of letters")
    build.add_argument(
        "--word_list", type=Path, metavar="FILE", help="own list (.csv, .tsv, .xlsx with word, PoS; or .txt)"
    )
    build.add_argument("--block", type=Path, metavar="FILE", help="words to exclude; the package's list by default")
    build.add_argument("--no_block", action="store_true", help="exclude no words")
    build.add_argument("--base_forms", action="store_true", help="base forms only: toy, but not toys")
    build.add_argument("--near", type=float, default=0.7, metavar="COSINE", help="minimum cosine of near-duplicates")
    build.add_argument("--cache_dir", type=Path, default=Path("~/.cache/face_lightning"), help=argparse.SUPPRESS)
    return parser


def _check_out(out: Path) -> None:
    """Check that the output folder is new, empty, or contains only a vocabulary.

    Raises:
        ConfigurationError: If it contains other files, or is not a folder.
    """
    if out.is_symlink():
        raise ConfigurationError(f"out: expected a folder, got the link {out}; give the folder that it points to")
    if out.exists() and not out.is_dir():
        raise ConfigurationError(f"out: expected a folder, got the file {out}; give another name")
    paths = sorted(out.iterdir()) if out.is_dir() else []
    others = [path.name for path in paths if path.name not in _FILES or path.is_symlink() or not path.is_file()]
    if paths and not others and paths[0].name != _FILES[0]:  # every vocabulary has this file
        others = [paths[0].name]
    if others:
        raise ConfigurationError(
            f"out: expected an empty folder or a vocabulary, but {out} holds {others[0]!r} as well; give another --out"
        )


def _write(out: Path, contents: Mapping[str, Any], codebook: Codebook, report: CodebookReport) -> None:
    """Write the files to a temporary folder first, so that a full disk leaves the target unchanged."""
    try:
        with temporary_path(out) as temporary:
            temporary.mkdir(parents=True)
            (temporary / "report.json").write_text(json.dumps(contents, indent=2) + "\n", encoding="utf-8")
            words = "".join(f"{word}\n" for word in codebook.words)
            (temporary / "words.txt").write_text(words, encoding="utf-8")
            save_codebook(temporary / "codebook.safetensors", codebook, report)
            out.mkdir(exist_ok=True)
            for path in sorted(temporary.iterdir()):
                path.replace(out / path.name)
    except OSError as error:
        raise DataError(f"out: cannot write {out} ({error.strerror}); make room, or give another --out") from error
