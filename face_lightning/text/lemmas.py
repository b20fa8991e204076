"""Words that count as one: forms of a common lemma, and spellings of the same word."""

import re
from collections.abc import Sequence

from face_lightning.imports import import_optional

# American and British endings. Each is applied to words of at least as many letters as given, so that short words of
# their own ("prise", "filling", "does") stay apart.
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
    """Number of the group of each word; words of one group share a lemma, or differ by spelling alone.

    "toy" and "toys", "judgment" and "judgement", "colours" and "color" are one group each. A word with two lemmas joins
    theirs: "leaves" brings "leaf" and "leave" together.

    Args:
        words: Words in lower case.

    Returns:
        Numbers from 0 in the order in which groups first occur.

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
    """Spellings, made equal, of a word and of its lemmas; two words that have one in common are of one group."""
    lemminflect = import_optional("lemminflect", extra="words", purpose="telling lemmas of words")
    known = lemminflect.getAllLemmas(word) or lemminflect.getAllLemmasOOV(word, "NOUN")
    return sorted({_spelling(form) for form in (word, *(lemma for lemmas in known.values() for lemma in lemmas))})


def _spelling(word: str) -> str:
    """The same for all spellings of a word; not necessarily one of them."""
    word = _SPELLINGS.get(word, word)
    for length, pattern, replacement in _ENDINGS:
        if len(word) >= length:
            word = pattern.sub(replacement, word)
    return word
