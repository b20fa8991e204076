"""Whole words in the vocabularies of tokenizers, recognised by the marks of each family."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

# Byte-level BPE writes the space before a word as "Ġ", SentencePiece as "▁"; WordPiece marks continuations
# of a word with "##", and the BPE of Sennrich et al. the end of a word with "</w>".


@dataclass(frozen=True)
class Family:
    """How a family of tokenizers marks whole words.

    Attributes:
        name: Name of the family.
        begin: Prefix of a whole word.
        end: Suffix of a whole word.
    """

    name: str
    begin: str = ""
    end: str = ""

    def word(self, entry: str) -> str | None:
        """Return the whole word of letters a-z that `entry` represents, or None."""
        if not (entry.startswith(self.begin) and entry.endswith(self.end)):
            return None
        word = entry[len(self.begin) : len(entry) - len(self.end)]
        return word if word.isascii() and word.isalpha() and word.islower() else None


WORDPIECE = Family("WordPiece")
SENTENCEPIECE = Family("SentencePiece", begin="▁")
BYTE_LEVEL_BPE = Family("byte-level BPE", begin="Ġ")
END_OF_WORD_BPE = Family("end-of-word BPE", end="</w>")
_MARKS: dict[Family, Callable[[str], bool]] = {
    WORDPIECE: lambda entry: entry.startswith("##"),
    SENTENCEPIECE: lambda entry: entry.startswith("▁"),
    BYTE_LEVEL_BPE: lambda entry: entry.startswith("Ġ"),
    END_OF_WORD_BPE: lambda entry: entry.endswith("</w>"),
}


def family_of(vocabulary: Sequence[str] | Mapping[str, int]) -> Family:
    """Return the family whose marks are most frequent in the vocabulary; without marks, all entries are words."""
    counts = {family: sum(map(has_mark, vocabulary)) for family, has_mark in _MARKS.items()}
    family = max(counts, key=lambda name: counts[name])
    return family if counts[family] else Family("words")


def whole_words(vocabulary: Mapping[str, int]) -> dict[str, int]:
    """Return the entries of a tokenizer's vocabulary that are whole words of the letters a-z.

    How a tokenizer marks them is inferred from the vocabulary, see `family_of`.

    Args:
        vocabulary: Token id of each entry.

    Returns:
        Token id of each word.
    """
    family = family_of(vocabulary)
    words = ((family.word(entry), token) for entry, token in vocabulary.items())
    return {word: token for word, token in words if word is not None}
