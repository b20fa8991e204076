import importlib.util
import sys
from pathlib import Path

import pytest

from face_lightning.errors import DataError, MissingDependencyError
from face_lightning.text.lexicon import (
    BLOCKLIST,
    frequent_words,
    is_noun_or_adjective,
    open_word_list,
    read_blocklist,
    read_word_list,
)

needs_sources = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("wordfreq", "lemminflect", "textblob")),
    reason="needs the extra words",
)


@needs_sources
@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("dragon", True),  # both sources: noun
        ("funny", True),  # both sources: adjective
        ("quickly", False),  # adverb in both
        ("make", False),  # noun for lemminflect, mainly a verb for Brill
        ("thriller", False),  # noun for Brill, unknown to lemminflect
        ("multiplayer", True),  # unknown to Brill, adjective for lemminflect
        ("xqzt", False),
    ],
)
def test_two_sources_agree_on_nouns_and_adjectives(word: str, expected: bool) -> None:
    assert is_noun_or_adjective(word) is expected


@needs_sources
def test_open_list_holds_frequent_nouns_and_adjectives_in_order() -> None:
    words = open_word_list(2_000, 4)
    assert words.index("time") < words.index("movie") < words.index("brain")
    assert not {"the", "make", "very", "dog", "multiplayer"} & set(words)
    assert all(word.isascii() and word.isalpha() and word.islower() and len(word) >= 4 for word in words)
    assert open_word_list(1_000, 4) == words[: len(open_word_list(1_000, 4))]
    assert "dog" in open_word_list(2_000, 3)


@pytest.mark.parametrize("package", ["wordfreq", "lemminflect"])
def test_a_missing_source_names_the_extra(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    pytest.importorskip(package)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'face-lightning\[words\]'"):
        open_word_list(10, 1)


def test_a_missing_lexicon_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    from face_lightning.text import lexicon

    lexicon._brill_lexicon.cache_clear()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match=r"textblob .* pip install 'face-lightning\[words\]'"):
        is_noun_or_adjective("dragon")


@needs_sources
def test_frequent_words_are_nouns_of_the_texts() -> None:
    texts = [
        "A dark thriller movie with Dracula, that somehow thrills. Don't watch.",
        "This thriller movie, a noir one with Dracula, somehow thrills.",
        "An anime movie; anime, anime! Somehow new.",
        "An anime movie, not children's.",
        None,
        "Quiet.",
    ]
    # "movie" occurs in 4 of 5 texts; "anime" counts once per text; "somehow" is an adverb; "new" a stop word;
    # "Dracula" is a name; "thrills" is a verb or noun, which the sources keep.
    assert frequent_words(texts, 2) == ["anime", "thriller", "thrills"]
    assert frequent_words(texts, 2, max_share=1.0) == ["movie", "anime", "thriller", "thrills"]
    assert "dark" in frequent_words(texts, 1)
    assert "noir" in frequent_words(texts, 1)
    assert not {"somehow", "new", "don", "children", "dracula", "watch"} & set(frequent_words(texts, 1))
    assert frequent_words([None], 1) == []


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        (
            "w.txt",
            "Love\n# a comment\nwar  # and another\nlove\nit\nco-op\n\nmagic\n",
            ["love", "war", "magic"],
        ),
        ("w.csv", "rank,PoS,word\n1,n,time\n2,v,make\n3,j,new\n4,N,Love\n5\n", ["time", "new", "love"]),
        ("w.tsv", "word\tpos\ntime\tn\nmake\tv\n", ["time"]),
        ("w.csv", 'Word;PoS\n"time";n\nmake;v\n', ["time"]),
        ("bom.csv", "\ufeffword,PoS\ntime,n\n", ["time"]),
    ],
)
def test_own_lists_are_read(tmp_path: Path, name: str, content: str, expected: list[str]) -> None:
    path = tmp_path / name
    path.write_text(content, encoding="utf-8")
    assert read_word_list(path) == expected
    assert read_word_list(path, num_frequent=1) == expected[:1]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing.txt", None, "cannot read .* UTF-8"),
        ("latin.txt", "caf\xe9".encode("latin-1"), "cannot read .* UTF-8"),
        ("w.ods", b"PK", "expected a file .csv, .tsv, .xlsx or .txt, got .* export the list as CSV"),
        ("w.csv", b"lemma,freq\ntime,1\n", "expected the columns word and PoS"),
        ("empty.csv", b"", "expected the columns word and PoS"),
        ("verbs.csv", b"word,PoS\nmake,v\n", "expected words of at least 3 letters"),
        ("w.txt", b"it\n42\n", "expected words of at least 3 letters a-z, got none"),
    ],
)
def test_invalid_word_lists_raise(tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        read_word_list(path)
    assert str(caught.value).startswith("word_list: ")
    assert "\n" not in str(caught.value)


def test_the_default_blocklist_is_tidy() -> None:
    lines = [line for line in BLOCKLIST.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    assert lines == sorted(set(lines))
    assert all(line.isascii() and line.isalpha() and line.islower() for line in lines)
    blocked = read_blocklist(BLOCKLIST)
    assert {"bitch", "jimmy", "una", "des", "yen", "ting"} <= blocked
    assert not {"love", "dragon", "sexual"} & blocked


def test_own_blocklists_are_read(tmp_path: Path) -> None:
    path = tmp_path / "block.txt"
    path.write_text("# mine\nWar\n\nlove # too soft\n", encoding="utf-8")
    assert read_blocklist(path) == {"war", "love"}
    with pytest.raises(DataError, match=r"block: cannot read .* or null"):
        read_blocklist(tmp_path / "missing.txt")


def test_words_in_addresses_are_ignored() -> None:
    texts = [
        "a puzzle at https://click.example/robot?guitar=1 and www.planet.org",
        "a puzzle by robot@guitar.com",
        None,
    ] * 3
    assert frequent_words(texts, 2, max_share=1.0) == ["puzzle"]
