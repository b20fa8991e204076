"""Groups of words that count as one: forms of a common lemma, and spelling variants."""

import re
from collections.abc import Sequence

from face_lightning.imports import import_optional

# American and British endings, each with the minimum word length to which it applies, so that unrelated short words
# ("prise", "filling", "does") are not changed.
_ENDINGS = tuple(
    (length, re.compile(pattern), replacement)
    for length, pattern, replacement in (
        (5, r"our$", "or"),
        (5, r"([bcdghkptv])re$", r"\1er"),
        (6, r"is(e|er|ing|ation)$", r"iz\1"),
        (7, r"ogue$", "og"),
        (6, r"dgement$", "dgment"),
        (6, r"ence$", "ense"),
        (8, r"([aeiou])ll(ing|er|or|ery|ous)$", r"\1l\2"),
        (7, r"l{1,2}(ful|ment)$", r"l\1"),
        (6, r"[ao]e", "e"),
    )
)
_SPELLINGS = {
    "adviser": "advisor",
    "aeroplane": "airplane",
    "aluminium": "aluminum",
    "artefact": "artifact",
    "barbeque": "barbecue",
    "blonde": "blond",
    "cosy": "cozy",
    "disk": "disc",
    "doughnut": "donut",
    "draught": "draft",
    "enquiry": "inquiry",
    "fulfil": "fulfill",
    "gray": "grey",
    "jewellery": "jewelry",
    "kerb": "curb",
    "mold": "mould",
    "moustache": "mustache",
    "omelette": "omelet",
    "plow": "plough",
    "practise": "practice",
    "programme": "program",
    "pajama": "pyjama",
    "pajamas": "pyjamas",
    "racquet": "racket",
    "skeptic": "sceptic",
    "skeptical": "sceptical",
    "sulphur": "sulfur",
    "tsar": "czar",
    "tyre": "tire",
    "whiskey": "whisky",
    "woollen": "woolen",
    "yoghurt": "yogurt",
}


def lemma_groups(words: Sequence[str]) -> list[int]:
    """Group words that share a lemma or differ only by spelling.

    "toy" and "toys", "judgment" and "judgement", "colours" and "color" are one group each. A word with several lemmas
    merges their groups: "leaves" puts "leaf" and "leave" into one group.

    Args:
        words: Words in lower case.

    Returns:
        Group of each word, numbered from 0 by first occurrence.

    Raises:
        MissingDependencyError: If lemminflect is not installed.
    """
    parents: dict[str, str] = {}

    def root(key: str) -> str:
        while parents.setdefault(key, key) != key:
            parents[key] = parents[parents[key]]
            key = parents[key]
        return key

    first_keys = []
    for word in words:
        first, *others = _keys(word)
        first_keys.append(first)
        for key in others:
            parents[root(key)] = root(first)
    numbers: dict[str, int] = {}
    return [numbers.setdefault(root(key), len(numbers)) for key in first_keys]


def _keys(word: str) -> list[str]:
    """Return the normalised spellings of a word and its lemmas; words with a common key are in one group."""
    lemminflect = import_optional("lemminflect", extra="words", purpose="finding the lemmas of words")
    known = lemminflect.getAllLemmas(word) or lemminflect.getAllLemmasOOV(word, "NOUN")
    return sorted({_spelling(form) for form in (word, *(lemma for lemmas in known.values() for lemma in lemmas))})


def _spelling(word: str) -> str:
    """Map all spelling variants of a word to the same key, which need not be a word."""
    word = _SPELLINGS.get(word, word)
    for length, pattern, replacement in _ENDINGS:
        if len(word) >= length:
            word = pattern.sub(replacement, word)
    return word
