"""Statistics of words in texts: TF-IDF, and coherence from co-occurrence."""

import math
import re
from collections import Counter
from collections.abc import Sequence
from itertools import combinations

_WORD = re.compile(r"[^\W\d_]+")


class TextStatistics:
    """Occurrences of a vocabulary's words in the texts of a catalogue.

    Args:
        texts: The texts.
        vocabulary: Words to count, in lower case.
    """

    def __init__(self, texts: Sequence[str], vocabulary: Sequence[str]) -> None:
        known = set(vocabulary)
        self._counts = [Counter(word for word in _WORD.findall(text.lower()) if word in known) for text in texts]
        self._places: dict[str, set[int]] = {}
        for place, counts in enumerate(self._counts):
            for word in counts:
                self._places.setdefault(word, set()).add(place)

    def tf_idf_words(self, place: int, num_words: int) -> list[str]:
        """Return the words of highest TF-IDF in the text at index `place`, best first, at most `num_words`."""
        total = len(self._counts)
        weights = {
            word: count * math.log((1 + total) / (1 + len(self._places[word])))
            for word, count in self._counts[place].items()
        }
        return sorted(weights, key=lambda word: (-weights[word], word))[:num_words]

    def coherence(self, words: Sequence[str]) -> float | None:
        """Mean normalised pointwise mutual information of pairs of words over texts, from -1 to 1.

        `npmi(v, w) = log(p(v, w) / p(v) p(w)) / -log p(v, w)`, and -1 for words that never occur together. Words that
        occur in no text are ignored; None if fewer than two words remain.

        Reference:
            Lau, Newman & Baldwin, "Machine Reading Tea Leaves", EACL 2014.
        """
        seen = [self._places[word] for word in words if word in self._places]
        values = [
            _npmi(len(one & other), len(one), len(other), len(self._counts)) for one, other in combinations(seen, 2)
        ]
        return sum(values) / len(values) if values else None


def _npmi(both: int, one: int, other: int, total: int) -> float:
    if both == 0:
        return -1.0
    if both == total:
        return 1.0
    return math.log(both * total / (one * other)) / -math.log(both / total)
