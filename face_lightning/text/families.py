"""Which entries of a tokenizer's vocabulary are whole words, told by how its family marks them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

# Byte-level BPE writes the space before a word as "Ġ", SentencePiece as "▁"; WordPiece marks what
# continues a word with "##", and BPE after Sennrich what ends one with "</w>".


@dataclass(frozen=True)
class Family:
    """How a family of tokenizers writes a whole word.

    Attributes:
        name: What the family is called.
        begin: What stands before a whole word.
        end: What stands behind it.
    """

    name: str
    begin: str = ""
    end: str = ""

    def word(self, entry: str) -> str | None:
        """Return the whole word in the letters a-z that `entry` stands for, or None."""
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
    """Return the family whose marks the vocabulary has most of; without any, all entries are words."""
    counts = {family: sum(map(has_mark, vocabulary)) for family, has_mark in _MARKS.items()}
    family = max(counts, key=lambda name: counts[name])
    return family if counts[family] else Family("words")


def whole_words(vocabulary: Mapping[str, int]) -> dict[str, int]:
    """Return the entries of a tokenizer's vocabulary that are whole words of the letters a-z.

    How a tokenizer marks them is read off the vocabulary, see `family_of`.

    Args:
        vocabulary: Token id of each entry, as the tokenizer writes the entries.

    Returns:
        Token id of each word.
    """
    family = family_of(vocabulary)
    words = ((family.word(entry), token) for entry, token in vocabulary.items())
    return {word: token for word, token in words if word is not None}
