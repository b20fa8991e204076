"""The vocabulary of descriptors: English words that are single tokens of the encoder."""

import importlib.metadata
import json
from collections.abc import Callable, Iterable, Sequence, Set
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from face_lightning.errors import DataError
from face_lightning.text.cache import content_key, file_key, load_tensors, save_tensors
from face_lightning.text.families import family_of, whole_words
from face_lightning.text.lemmas import lemma_groups
from face_lightning.text.lexicon import (
    BLOCKLIST,
    is_base_form,
    open_word_list,
    read_blocklist,
    read_word_list,
)
from face_lightning.text.sentence_encoder import SentenceEncoder, TokenSource

_RULES = "3"  # version of the rules in cache keys; incremented when the same arguments select other words
_SOURCES = ("wordfreq", "lemminflect", "textblob")


@dataclass(frozen=True)
class Codebook:
    """Words with their tokens, ordered by token id.

    Attributes:
        words: V words.
        token_ids: Token of each word in the encoder's tokenizer, `(V,)`, ascending.
        token_embeddings: Raw input embeddings of these tokens, `(V, T)` in float32.
        fingerprint: sha256 of the words and the embeddings.
        lemmas: Lemma of each word as a number, `(V,)`, see `lemma_groups`.
    """

    words: tuple[str, ...]
    token_ids: Tensor
    token_embeddings: Tensor
    fingerprint: str
    lemmas: Tensor


@dataclass(frozen=True)
class CodebookReport:
    """Number of words after each filter.

    Attributes:
        family: Family of the tokenizer: "WordPiece", "SentencePiece", "byte-level BPE", ...
        num_tokens: Size of the tokenizer's vocabulary.
        num_whole_words: Entries that are whole words of the letters a-z, long enough.
        num_listed: Nouns and adjectives of the word list.
        num_common: Whole words that are on the word list.
        num_extra: Whole words that are only in `extra_words`.
        num_blocked: Words removed by the blocklist.
        num_inflected: Words removed because they are not base forms.
        num_unreachable: Words removed because the tokenizer encodes them as other tokens in running text.
        num_words: Words of the codebook.
        sources: Versions of the word list and lexicons that it was built with, or the user's own list.
    """

    family: str
    num_tokens: int
    num_whole_words: int
    num_listed: int
    num_common: int
    num_extra: int
    num_blocked: int
    num_inflected: int
    num_unreachable: int
    num_words: int
    sources: tuple[str, ...] = ()


@dataclass(frozen=True)
class VocabularySettings:
    """Settings of a stage's codebook.

    Attributes:
        encoder: Encoder that defines the tokens.
        num_frequent: See `build_codebook`.
        word_list: See `build_codebook`.
        blocklist: File of words that are never descriptors; "default" is the package's, None blocks none.
        path: Codebook to read; one is built from the other settings if None.
    """

    encoder: SentenceEncoder
    num_frequent: int = 20_000
    word_list: Path | None = None
    blocklist: str | None = "default"
    path: Path | None = None

    def read(self, extra_words: Callable[[], Sequence[str]] | None = None) -> tuple[Codebook, CodebookReport]:
        """Read the codebook at `path`, or build one.

        Args:
            extra_words: Returns words from the catalogue's own texts to add; called only when a codebook is built.

        Returns:
            The codebook, and the report of its construction.

        Raises:
            DataError: If there is no codebook at `path`, or it belongs to another model than the encoder's.
            MissingDependencyError: If the open word lists are needed and not installed.
        """
        if self.path is not None:
            return load_codebook(self.path, self.encoder)
        own_list = self.blocklist not in ("default", None)
        return build_codebook(
            self.encoder,
            num_frequent=self.num_frequent,
            word_list=self.word_list,
            block=Path(str(self.blocklist)) if own_list else "default" if self.blocklist else None,
            extra_words=() if extra_words is None else extra_words(),
        )


def build_codebook(
    encoder: TokenSource,
    *,
    num_frequent: int = 20_000,
    min_length: int = 3,
    word_list: Path | None = None,
    block: Path | Literal["default"] | None = "default",
    extra_words: Iterable[str] = (),
    base_forms: bool = False,
) -> tuple[Codebook, CodebookReport]:
    """Collect the words that may become descriptors.

    A word is included if it is a single token of the encoder, either a noun or adjective among the most frequent
    English words or one of `extra_words`, and not blocked. The result is cached in the encoder's `cache_dir`.

    Args:
        encoder: Encoder, or files of a model, that defines the tokens.
        num_frequent: Number of the most frequent English words to consider; with `word_list`, number of words to
            keep from its top.
        min_length: Minimum number of letters.
        word_list: Own word list, see `read_word_list`; open sources by default.
        block: File of words that are never descriptors; None blocks nothing.
        extra_words: Words that need not be on the list, such as `frequent_words` of the catalogue's texts.
        base_forms: Whether to keep base forms only: "toy", but not "toys".

    Raises:
        DataError: If a file cannot be read, the tokenizer has no whole words, or no words remain.
        MissingDependencyError: If the open sources are needed and not installed.
    """
    blocklist = BLOCKLIST if block == "default" else block
    blocked = read_blocklist(blocklist) if blocklist is not None else frozenset()
    extra = {word.lower() for word in extra_words}
    listing = _source_versions() if word_list is None or base_forms else []
    listing += [] if word_list is None else _file_key(word_list)
    settings = [_RULES, encoder.identity, str(num_frequent), str(min_length), str(base_forms), *listing]
    key = content_key(["codebook", *settings, "block", *sorted(blocked), "extra", *sorted(extra)])
    path = encoder.cache_dir / "codebooks" / f"{key}.safetensors"
    cached = _read(path)
    if cached is not None:
        return cached

    listed = (
        open_word_list(num_frequent, min_length)
        if word_list is None
        else read_word_list(word_list, num_frequent, min_length)
    )
    tokens, report = _filter_words(encoder, set(listed), extra, blocked, min_length, base_forms)
    report = replace(report, sources=tuple(_source_versions()) if word_list is None else (word_list.name,))
    token_ids = torch.tensor(list(tokens.values()), dtype=torch.long)
    embeddings = encoder.token_embeddings(token_ids)
    lemmas = torch.tensor(lemma_groups(list(tokens)))
    codebook = Codebook(tuple(tokens), token_ids, embeddings, _fingerprint(tokens, embeddings), lemmas)
    save_codebook(path, codebook, report)
    return codebook, report


def _filter_words(
    encoder: TokenSource,
    listed: Set[str],
    extra: Set[str],
    blocked: Set[str],
    min_length: int,
    base_forms: bool,
) -> tuple[dict[str, int], CodebookReport]:
    """Apply the filters of `build_codebook`; returns words with their tokens, by token, and the report."""
    vocabulary: dict[str, int] = encoder.tokenizer.get_vocab()
    tokens = {word: token for word, token in whole_words(vocabulary).items() if len(word) >= min_length}
    if not tokens:
        raise DataError(_no_whole_words(encoder.model, vocabulary, min_length))
    common = tokens.keys() & listed
    wanted = common | (tokens.keys() & extra)
    allowed = wanted - blocked
    kept = {word for word in allowed if is_base_form(word)} if base_forms else allowed
    words = _reachable(encoder.tokenizer, {word: tokens[word] for word in sorted(kept, key=tokens.__getitem__)})
    if not words:
        raise DataError(
            f"word_list: expected words that are single tokens of {encoder.model!r}, got none among {len(listed)}; use "
            "a longer list, more frequent words, or another model"
        )
    report = CodebookReport(
        family=family_of(vocabulary).name,
        num_tokens=len(vocabulary),
        num_whole_words=len(tokens),
        num_listed=len(listed),
        num_common=len(common),
        num_extra=len(wanted) - len(common),
        num_blocked=len(wanted) - len(allowed),
        num_inflected=len(allowed) - len(kept),
        num_unreachable=len(kept) - len(words),
        num_words=len(words),
    )
    return {word: tokens[word] for word in words}, report


def load_codebook(path: Path, encoder: TokenSource | None = None) -> tuple[Codebook, CodebookReport]:
    """Read a codebook that `save_codebook` wrote.

    Args:
        path: The file, or the folder that `face vocab build` wrote it to.
        encoder: Encoder that the words must belong to; not checked if None.

    Raises:
        DataError: If the file is missing, not a codebook, or belongs to another model than `encoder`.
    """
    path = path / "codebook.safetensors" if path.is_dir() else path
    stored = _read(path)
    if stored is None:
        raise DataError(
            f"codebook: expected a file that face vocab build wrote, got {path}; build it, or give its folder"
        )
    codebook = stored[0]
    if encoder is not None:
        try:
            same = torch.equal(encoder.token_embeddings(codebook.token_ids), codebook.token_embeddings)
        except (DataError, IndexError):  # the encoder has fewer tokens
            same = False
        if not same:
            raise DataError(
                f"codebook: expected words of {encoder.model!r}, got those of another model in {path}; build it with "
                f"face vocab build --model {encoder.model}"
            )
    return stored


def save_codebook(path: Path, codebook: Codebook, report: CodebookReport) -> None:
    """Write a codebook and its report to one file, atomically."""
    tensors = {name: getattr(codebook, name) for name in ("token_ids", "token_embeddings", "lemmas")}
    words = {"words": " ".join(codebook.words), "fingerprint": codebook.fingerprint}
    save_tensors(path, tensors, {**words, "report": json.dumps(asdict(report))})


def word_vectors(encoder: SentenceEncoder, codebook: Codebook, progress: bool = False) -> Tensor:
    """Encode each word of the codebook as a sentence, `(V, E)`; cached by the encoder."""
    return encoder.encode(codebook.words, batch_size=256, progress=progress)


def _source_versions() -> list[str]:
    """Return the installed versions of the open sources, without importing them."""

    def version(name: str) -> str:
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            return "none"

    return [f"{name} {version(name)}" for name in _SOURCES]


def _file_key(path: Path) -> list[str]:
    """Return a key of a word list's content; a missing file is reported later, by its reader."""
    return [path.suffix, file_key(path) if path.is_file() else ""]


def _reachable(tokenizer: Any, tokens: dict[str, int]) -> list[str]:  # noqa: ANN401
    """Return the words that are encoded as their own token in running text."""
    if not tokens:
        return []
    # Between other words, because some families encode the beginning of a text differently.
    found = tokenizer([f"a {word} a" for word in tokens], add_special_tokens=False)["input_ids"]
    return [word for (word, token), ids in zip(tokens.items(), found, strict=True) if token in ids]


def _no_whole_words(model: str, vocabulary: dict[str, int], min_length: int) -> str:
    """Return the error message for a tokenizer of characters or bytes."""
    entries = ", ".join(repr(entry) for entry in sorted(vocabulary, key=lambda entry: (-len(entry), entry))[:4])
    return (
        f"model: expected a tokenizer with whole words of at least {min_length} letters a-z, got {len(vocabulary)} "
        f"entries without any in {model!r} (such as {entries}); use a model with a WordPiece, SentencePiece or "
        "byte-level BPE vocabulary"
    )


def _fingerprint(words: Iterable[str], embeddings: Tensor) -> str:
    """Return the sha256 of words and embeddings."""
    return content_key([*words, embeddings.numpy().tobytes()])


def _read(path: Path) -> tuple[Codebook, CodebookReport] | None:
    """Read a codebook written by `save_codebook`; None if there is none."""
    stored = load_tensors(path)
    if stored is None or not {"words", "fingerprint", "report"} <= stored[1].keys():
        return None
    tensors, metadata = stored
    words = tuple(metadata["words"].split())
    # Files written before lemmas were introduced have none: each word is then its own lemma.
    lemmas = tensors.get("lemmas", torch.arange(len(words)))
    codebook = Codebook(words, tensors["token_ids"], tensors["token_embeddings"], metadata["fingerprint"], lemmas)
    report = json.loads(metadata["report"])
    return codebook, CodebookReport(**report | {"sources": tuple(report.get("sources", ()))})
