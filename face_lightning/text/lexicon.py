"""English nouns and adjectives: an open word list, a user's own list, and frequent words of the texts."""

import csv
import functools
import importlib.util
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from face_lightning.errors import DataError, MissingDependencyError
from face_lightning.files import check_regular
from face_lightning.imports import import_optional
from face_lightning.text.spreadsheet import read_sheets

BLOCKLIST = Path(__file__).with_name("blocklist.txt")

_PLAIN = re.compile(r"[a-z]+")
# Words of running text; words with an apostrophe ("children's", "don't") are excluded.
IN_TEXT = re.compile(r"(?<![\w'’])[a-z]{3,}(?![\w'’])")  # noqa: RUF001 -- the curly apostrophe is meant
_ADDRESS = re.compile(
    r"(?:[a-z][a-z0-9+.-]{1,20}://|www\.)\S+|\S+@\S+|\b[\w-]+\.(?:com|org|net|html?|php|aspx?|jpe?g|png)\b\S*", re.I
)
_NOUN_TAGS = ("NN", "JJ")
_PURPOSE = "the default word list"


def open_word_list(num_frequent: int, min_length: int) -> list[str]:
    """Return the nouns and adjectives among the most frequent English words, most frequent first.

    Args:
        num_frequent: Number of the most frequent words to consider.
        min_length: Minimum number of letters.

    Raises:
        MissingDependencyError: If wordfreq, lemminflect or textblob is not installed.
    """
    wordfreq = import_optional("wordfreq", extra="words", purpose=_PURPOSE)
    words: list[str] = wordfreq.top_n_list("en", num_frequent)
    return [word for word in words if _is_plain(word, min_length) and is_noun_or_adjective(word)]


def is_noun_or_adjective(word: str) -> bool:
    """Return whether `word` is mainly a noun or adjective.

    Two open sources have to agree: the dominant part of speech in the Brill lexicon, and one of the parts of speech in
    lemminflect. Words that the Brill lexicon lacks are decided by lemminflect alone.

    Raises:
        MissingDependencyError: If lemminflect or textblob is not installed.
    """
    tag = _brill_lexicon().get(word)
    return not {"NOUN", "ADJ"}.isdisjoint(_parts_of_speech(word)) and (tag is None or tag.startswith(_NOUN_TAGS))


def may_be_noun(word: str) -> bool:
    """Return whether neither source rules out that `word` is a noun or adjective."""
    parts, tag = _parts_of_speech(word), _brill_lexicon().get(word, "NN")
    return tag.startswith((*_NOUN_TAGS, "FW")) and (not parts or not {"NOUN", "ADJ"}.isdisjoint(parts))


def is_base_form(word: str) -> bool:
    """Return whether `word` is its own base form as a noun or adjective, or unknown: "toy", but not "toys".

    Raises:
        MissingDependencyError: If lemminflect is not installed.
    """
    return word in (base_forms(word) or {word})


def base_forms(word: str) -> frozenset[str]:
    """Return the base forms of `word` as a noun or adjective; empty for an unknown word.

    Raises:
        MissingDependencyError: If lemminflect is not installed.
    """
    lemminflect = import_optional("lemminflect", extra="words", purpose=_PURPOSE)
    lemmas = lemminflect.getAllLemmas(word)
    return frozenset(lemma for part in ("NOUN", "ADJ") for lemma in lemmas.get(part, ()))


def frequent_words(
    texts: Iterable[str | None], min_count: int, *, max_share: float = 0.5, num_stop_words: int = 300
) -> list[str]:
    """Return frequent words of the catalogue's texts, which general word lists may lack.

    Excluded are the language's most frequent words, words that one of the two sources of `is_noun_or_adjective`
    lists as other parts of speech only, and words of most texts, such as those of a template, which do not
    distinguish entities. Only lower-case words count: capitals mark names, titles and companies. Addresses of the web
    and of mail are left out.

    Args:
        texts: One text per entity; None stands for a missing text.
        min_count: Minimum number of texts in which a word occurs.
        max_share: Maximum share of the texts in which a word occurs.
        num_stop_words: Number of the most frequent English words to exclude.

    Returns:
        Words in lower case by descending document frequency.

    Raises:
        MissingDependencyError: If wordfreq, lemminflect or textblob is not installed.
    """
    num_texts, counts = 0, Counter[str]()
    for text in texts:
        if text is not None:
            num_texts += 1
            counts.update(set(IN_TEXT.findall(_ADDRESS.sub(" ", text))))
    wordfreq = import_optional("wordfreq", extra="words", purpose=_PURPOSE)
    stop_words = set(wordfreq.top_n_list("en", num_stop_words))
    taken = [
        word
        for word, count in counts.items()
        if min_count <= count <= max_share * num_texts and word not in stop_words and may_be_noun(word)
    ]
    return sorted(taken, key=lambda word: (-counts[word], word))


def read_word_list(path: Path, num_frequent: int | None = None, min_length: int = 3) -> list[str]:
    """Read a user's own word list, most frequent first.

    A text file contains one word per line; "#" starts a comment. A table (.csv, .tsv, .xlsx) needs the columns "word"
    and "PoS", as in the COCA frequency list; its nouns ("n") and adjectives ("j") are used.

    Args:
        path: The file; text files in UTF-8.
        num_frequent: Number of words to keep from the top; all by default.
        min_length: Minimum number of letters.

    Raises:
        DataError: If the file is missing, not UTF-8 text, lacks a column or contains no word.
        MissingDependencyError: If the file is .xlsx and openpyxl is not installed.
    """
    kind = path.suffix.lower()
    check_regular("word_list", path)
    if kind == ".xlsx":
        words = _table_words(path, read_sheets(path))
    elif kind in {".csv", ".tsv", ".txt"}:
        try:
            lines = path.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            reason = type(error).__name__
            raise DataError(f"word_list: cannot read {path} ({reason}); give a text file in UTF-8") from error
        if kind == ".txt":
            words = [line.partition("#")[0].strip() for line in lines]
        else:
            delimiter = max(",;\t", key=lines[0].count) if lines else ","
            words = _table_words(path, [list(csv.reader(lines, delimiter=delimiter))])
    else:
        raise DataError(f"word_list: expected a file .csv, .tsv, .xlsx or .txt, got {path}; export the list as CSV")
    unique = list(dict.fromkeys(word.lower() for word in words if _is_plain(word.lower(), min_length)))
    if not unique:
        raise DataError(
            f"word_list: expected words of at least {min_length} letters a-z, got none in {path}; write one word per "
            "line, or a table with the columns word and PoS"
        )
    return unique[:num_frequent]


def read_blocklist(path: Path) -> frozenset[str]:
    """Read words that are never descriptors, one per line; "#" starts a comment.

    Raises:
        DataError: If the file is missing or not UTF-8 text.
    """
    check_regular("block", path)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"block: cannot read {path} ({type(error).__name__}); give a text file in UTF-8 with one word per "
            "line, or null to block no words"
        ) from error
    return frozenset(word.lower() for line in lines if (word := line.partition("#")[0].strip()))


def _table_words(path: Path, tables: list[list[list[str]]]) -> list[str]:
    """Return the nouns and adjectives of the first table with the columns word and PoS."""
    for rows in tables:
        columns = [name.strip().lower() for name in rows[0]] if rows else []
        if {"word", "pos"} <= set(columns):
            word, tag = columns.index("word"), columns.index("pos")
            found = (row for row in rows[1:] if len(row) > max(word, tag))
            return [row[word].strip() for row in found if row[tag].strip().lower() in {"n", "j"}]
    header = ", ".join(filter(None, tables[0][0])) if tables and tables[0] else ""
    raise DataError(
        f"word_list: expected the columns word and PoS in {path}, got the first line {header[:80]!r}; rename the "
        "columns, or give a .txt file with one word per line"
    )


def _is_plain(word: str, min_length: int) -> bool:
    """Return whether `word` is long enough and consists of the letters a-z alone."""
    return len(word) >= min_length and _PLAIN.fullmatch(word) is not None


def _parts_of_speech(word: str) -> frozenset[str]:
    """Return all parts of speech that `word` can have; empty for an unknown word."""
    lemminflect = import_optional("lemminflect", extra="words", purpose=_PURPOSE)
    return frozenset(lemminflect.getAllLemmas(word))


@functools.cache
def _brill_lexicon() -> dict[str, str]:
    """Return the dominant part of speech, as a Penn tag, of each word of the Brill lexicon."""
    # Only the file is needed: importing textblob would load NLTK.
    spec = importlib.util.find_spec("textblob")
    path = None if spec is None or spec.origin is None else Path(spec.origin).parent / "en" / "en-lexicon.txt"
    if path is None or not path.is_file():
        raise MissingDependencyError(
            f"textblob is needed for {_PURPOSE}, but its lexicon cannot be found; install it with: pip "
            "install 'face-lightning[words]'"
        )
    lexicon: dict[str, str] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        fields = line.split()
        if len(fields) >= 2 and not line.startswith(";;;"):
            lexicon[fields[0]] = fields[1]
    return lexicon
