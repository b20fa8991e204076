"""MovieLens-100K as three plain tables: parsed from either source, written and read.

Reference: Harper and Konstan, "The MovieLens Datasets: History and Context", ACM TiiS 5(4), 2015.
"""

import hashlib
import json
import re
import unicodedata
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from face_lightning.errors import DataError
from face_lightning.files import write_atomically

GENRES = (
    *("Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama", "Fantasy"),
    *("Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western"),
)
MANIFEST = "manifest.json"
TABLES = ("interactions.tsv", "items.tsv", "users.tsv")
LICENCE = """MovieLens 100K, collected by the GroupLens Research Project at the University of Minnesota.

Terms in short (the README of https://grouplens.org/datasets/movielens/100k/ has them in full):
- for research; no commercial or revenue-bearing use without permission from GroupLens
- no redistribution without separate permission
- nothing may be stated or implied that suggests endorsement by the University of Minnesota or GroupLens
- publications acknowledge the data by citing:
  F. Maxwell Harper and Joseph A. Konstan. 2015. The MovieLens Datasets: History and Context.
  ACM Transactions on Interactive Intelligent Systems 5, 4, Article 19. https://doi.org/10.1145/2827872
"""

_ARTICLES = "The|A|An|La|Le|Les|L'|Il|Lo|El|Los|Las|Der|Die|Das|Det|Den|Un|Une|Una"
_TRAILING_ARTICLE = re.compile(rf"(?P<base>.+?), (?P<article>{_ARTICLES})")
_YEAR = re.compile(r"\s*\((?P<year>\d{4})\)(\s*\([A-Z]+\))?$")
_UNKNOWN = {"", "unknown", "unkonwn"}  # the second is a misspelling in RecBole's copy


class Film(NamedTuple):
    """One film; `title` and `year` are empty if MovieLens lacks them."""

    film_id: int
    title: str
    year: str
    genres: tuple[str, ...]


class Viewer(NamedTuple):
    """One viewer; age in years."""

    viewer_id: int
    age: int
    gender: str
    occupation: str


@dataclass(frozen=True, eq=False)
class MovieLensTables:
    """Ratings `(N, 4)` as int64 columns viewer, film, rating (1 to 5), time (Unix seconds); films; viewers.

    All tables are sorted by id.
    """

    ratings: np.ndarray
    films: tuple[Film, ...]
    viewers: tuple[Viewer, ...]


def parse_archive(path: Path) -> MovieLensTables:
    """Parse the GroupLens archive `ml-100k.zip` or a RecBole wheel; both give the same tables.

    Raises:
        DataError: If the file is neither of the two, or damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = set(archive.namelist())
            if "ml-100k/u.data" in names:
                return _parse_grouplens(archive)
            if "recbole/dataset_example/ml-100k/ml-100k.inter" in names:
                return _parse_recbole(archive)
    except (OSError, zipfile.BadZipFile, KeyError, ValueError, IndexError) as error:
        raise DataError(
            f"{path}: expected MovieLens-100K, got a damaged archive ({error}); download it again"
        ) from error
    raise DataError(f"{path}: expected ml-100k.zip of GroupLens or a RecBole wheel, got another file; check the path")


def natural_title(title: str) -> str:
    """Return a title in natural word order: "Godfather, The" becomes "The Godfather", also in parentheses."""
    title = unicodedata.normalize("NFC", " ".join(title.split()))
    title = re.sub(r"\(([^()]*)\)", lambda match: f"({_article_first(match[1])})", title)
    base, mark, rest = title.partition(" (")
    return _article_first(base) + mark + rest


def write_tables(tables: MovieLensTables, root: Path, source: str) -> None:
    """Write tables, licence and, last, a manifest with the SHA-256 of each file to `root`."""
    columns = (
        "user_id\titem_id\trating\ttimestamp",
        "item_id\ttitle\tyear\tgenres",
        "user_id\tage\tgender\toccupation",
    )
    rows: tuple[Iterable[Iterable[object]], ...] = (
        tables.ratings.tolist(),
        [(film.film_id, film.title, film.year, "|".join(film.genres)) for film in tables.films],
        tables.viewers,
    )
    texts = {"LICENSE.txt": LICENCE}
    for name, header, body in zip(TABLES, columns, rows, strict=True):
        lines = [header, *("\t".join(str(value) for value in row) for row in body)]
        texts[name] = "\n".join(lines) + "\n"
    digests = {name: hashlib.sha256(text.encode()).hexdigest() for name, text in texts.items()}
    texts[MANIFEST] = json.dumps({"source": source, "sha256": digests}, indent=2) + "\n"
    root.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        write_atomically(root / name, text)


def read_source(root: Path) -> str:
    """Check every file of `root` against the manifest and return the source of the data.

    Raises:
        DataError: If a file is missing or differs from what was written.
    """
    cure = f"download it with: face data ml-100k --root {root}"
    if not (root / MANIFEST).is_file():
        raise DataError(f"{root}: expected MovieLens-100K, got a folder without {MANIFEST}; {cure}")
    try:
        manifest = json.loads((root / MANIFEST).read_text(encoding="utf-8"))
        source, digests = str(manifest["source"]), dict(manifest["sha256"])
        wanted = {name: str(digests[name]) for name in TABLES}
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{root / MANIFEST}: expected a manifest, got a damaged file; {cure} --force") from error
    for name, digest in wanted.items():
        path = root / name
        if not path.is_file():
            raise DataError(f"{path}: expected a table of MovieLens-100K, got no file; {cure} --force")
        if hashlib.sha256(path.read_bytes()).hexdigest() != digest:
            raise DataError(f"{path}: expected the downloaded file, got another SHA-256; {cure} --force")
    return source


def read_tables(root: Path) -> MovieLensTables:
    """Read the tables that `write_tables` wrote.

    Raises:
        DataError: As `read_source` does.
    """
    read_source(root)
    ratings, films, viewers = (
        [line.split("\t") for line in (root / name).read_text(encoding="utf-8").splitlines()[1:]] for name in TABLES
    )
    return MovieLensTables(
        ratings=np.array(ratings, dtype=np.int64).reshape(-1, 4),
        films=tuple(
            Film(int(number), title, year, tuple(filter(None, genres.split("|"))))
            for number, title, year, genres in films
        ),
        viewers=tuple(Viewer(int(number), int(age), gender, occupation) for number, age, gender, occupation in viewers),
    )


def _parse_grouplens(archive: zipfile.ZipFile) -> MovieLensTables:
    """Parse ml-100k.zip: fields separated by bars, latin-1, one flag per genre."""
    films = []
    for row in _rows(archive, "ml-100k/u.item", "|", "latin-1"):
        flags = row[6:]  # row[5] is the flag of unknown genres
        films.append(
            _film(row[0], row[1], "", (genre for genre, flag in zip(GENRES, flags, strict=True) if flag == "1"))
        )
    return _tables(
        _rows(archive, "ml-100k/u.data", "\t", "latin-1"),
        films,
        _rows(archive, "ml-100k/u.user", "|", "latin-1"),
    )


def _parse_recbole(archive: zipfile.ZipFile) -> MovieLensTables:
    """Parse a RecBole wheel: fields separated by tabs, UTF-8, a header with types, a column for the year."""
    inter, item, user = (
        _rows(archive, f"recbole/dataset_example/ml-100k/ml-100k.{kind}", "\t", "utf-8")[1:]
        for kind in ("inter", "item", "user")
    )
    films = [_film(row[0], row[1], row[2], row[3].split(" ")) for row in item]
    return _tables(inter, films, user)


def _rows(archive: zipfile.ZipFile, member: str, separator: str, encoding: str) -> list[list[str]]:
    """Return the lines of a file in the archive, split into fields."""
    lines = archive.read(member).decode(encoding).split("\n")
    return [line.rstrip("\r").split(separator) for line in lines if line.strip()]


def _film(number: str, title: str, year: str, genres: Iterable[str]) -> Film:
    """Normalise a film: article first, year removed from the title, genres in canonical order."""
    found = _YEAR.search(title)
    if found:
        title = title[: found.start()]
    if not re.fullmatch(r"\d{4}", year):
        year = found["year"] if found else ""
    known = set(genres)
    if title.lower() in _UNKNOWN:
        return Film(int(number), "", "", ())
    return Film(int(number), natural_title(title), year, tuple(genre for genre in GENRES if genre in known))


def _tables(ratings: list[list[str]], films: list[Film], viewers: list[list[str]]) -> MovieLensTables:
    """Sort all tables by id; the zip code of viewers is dropped."""
    numbers = np.array(ratings, dtype=np.float64).astype(np.int64).reshape(-1, 4)
    return MovieLensTables(
        ratings=numbers[np.lexsort((numbers[:, 1], numbers[:, 0]))],
        films=tuple(sorted(films)),
        viewers=tuple(sorted(Viewer(int(row[0]), int(row[1]), row[2], row[3]) for row in viewers)),
    )


def _article_first(title: str) -> str:
    """Move an article after the last comma to the front."""
    match = _TRAILING_ARTICLE.fullmatch(title.strip())
    if not match:
        return title
    space = "" if match["article"].endswith("'") else " "
    return match["article"] + space + match["base"]
