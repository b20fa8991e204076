from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from face_lightning.text.families import family_of, whole_words


@pytest.mark.parametrize(
    ("vocabulary", "expected"),
    [
        (
            {"[CLS]": 0, "love": 1, "##ly": 2, "Love": 3, "it's": 4, "café": 5, "war": 9},
            {"love": 1, "war": 9},
        ),
        ({"<s>": 0, "▁love": 1, "ly": 2, "▁": 3, "▁Love": 4, "▁it's": 5, "▁war": 9}, {"love": 1, "war": 9}),
        ({"<s>": 0, "Ġlove": 1, "ly": 2, "Ġ": 3, "ĠLove": 4, "Ġ42": 5, "Ġwar": 9}, {"love": 1, "war": 9}),
        ({"<s>": 0, "love</w>": 1, "ly": 2, "</w>": 3, "Love</w>": 4, "war</w>": 9}, {"love": 1, "war": 9}),
        ({"<unk>": 0, "love": 1, "Love": 2}, {"love": 1}),
    ],
)
def test_whole_words_by_the_mark_of_the_tokenizer(vocabulary: dict[str, int], expected: dict[str, int]) -> None:
    assert whole_words(vocabulary) == expected


@pytest.mark.parametrize(
    ("family", "name"),
    [
        ("wordpiece", "WordPiece"),
        ("sentencepiece", "SentencePiece"),
        ("bytelevel", "byte-level BPE"),
        ("endofword", "end-of-word BPE"),
    ],
)
def test_families_are_distinguished(make_vocabulary: Callable[..., Path], family: str, name: str) -> None:
    from transformers import AutoTokenizer

    vocabulary = AutoTokenizer.from_pretrained(make_vocabulary(family)).get_vocab()
    assert family_of(vocabulary).name == name
    assert {"dragon", "ships", "toys"} <= whole_words(vocabulary).keys()


@given(st.lists(st.from_regex(r"[a-z]{1,8}", fullmatch=True), min_size=1, unique=True), st.sampled_from(["▁", "Ġ"]))
def test_marked_entries_are_words_and_unmarked_ones_are_not(words: list[str], mark: str) -> None:
    vocabulary = {f"{mark}{word}": i for i, word in enumerate(words)}
    vocabulary |= {f"{word}{word}": len(words) + i for i, word in enumerate(words)}
    assert whole_words(vocabulary) == {word: i for i, word in enumerate(words)}
