import json
import zipfile

import pytest

from face_lightning.data.movielens import (
    Film,
    Viewer,
    natural_title,
    parse_archive,
    read_source,
    read_tables,
    write_tables,
)
from face_lightning.errors import DataError


@pytest.mark.parametrize(
    ("title", "expected"),
    [
        ("Godfather, The", "The Godfather"),
        ("Godfather: Part II, The", "The Godfather: Part II"),
        ("Good, The Bad and The Ugly, The", "The Good, The Bad and The Ugly"),
        ("Star Maker, The (Uomo delle stelle, L')", "The Star Maker (L'Uomo delle stelle)"),
        ("Hate (Haine, La)", "Hate (La Haine)"),
        ("Corrina, Corrina", "Corrina, Corrina"),
        ("To Have, or Not", "To Have, or Not"),
        ("  Toy   Story ", "Toy Story"),
        ("M\u0065\u0301tisse", "M\u00e9tisse"),
    ],
)
def test_natural_titles(title, expected):
    assert natural_title(title) == expected


def test_tables_of_grouplens_by_hand(grouplens_zip):
    tables = parse_archive(grouplens_zip)
    assert tables.films == (
        Film(1, "Toy Story", "1995", ("Animation", "Children's", "Comedy")),
        Film(2, "The Godfather", "1972", ("Action", "Crime", "Drama")),
        Film(3, "", "", ()),
        Film(4, "La Double vie de Véronique (The Double Life of Veronique)", "1991", ("Drama",)),
    )
    assert tables.viewers == (
        Viewer(1, 24, "M", "technician"),
        Viewer(2, 16, "F", "student"),
        Viewer(10, 53, "F", "other"),
    )
    assert tables.ratings.tolist() == [
        [1, 1, 4, 101],
        [1, 2, 5, 102],
        [1, 3, 1, 103],
        [2, 1, 3, 101],
        [2, 2, 4, 102],
        [10, 4, 5, 104],
    ]


def test_both_sources_give_the_same_files(grouplens_zip, recbole_wheel, tmp_path):
    for source, folder in ((grouplens_zip, "a"), (recbole_wheel, "b")):
        write_tables(parse_archive(source), tmp_path / folder, folder)
    for name in ("interactions.tsv", "items.tsv", "users.tsv", "LICENSE.txt"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_tables_survive_writing(grouplens_zip, tmp_path):
    tables = parse_archive(grouplens_zip)
    write_tables(tables, tmp_path / "deep" / "root", "somewhere")
    again = read_tables(tmp_path / "deep" / "root")
    assert again.films == tables.films
    assert again.viewers == tables.viewers
    assert again.ratings.tolist() == tables.ratings.tolist()
    assert read_source(tmp_path / "deep" / "root") == "somewhere"
    assert "no redistribution" in (tmp_path / "deep" / "root" / "LICENSE.txt").read_text()
    assert not list(tmp_path.rglob("*.tmp"))


def test_damage_is_detected_and_names_the_cure(grouplens_zip, tmp_path):
    root = tmp_path / "root"
    with pytest.raises(DataError, match=f"got a folder without manifest.json; .*face data ml-100k --root {root}$"):
        read_tables(root)
    write_tables(parse_archive(grouplens_zip), root, "x")
    films = (root / "items.tsv").read_text(encoding="utf-8")
    (root / "items.tsv").write_text(films.replace("Toy Story", "Toy Stork"), encoding="utf-8")
    with pytest.raises(DataError, match=r"items\.tsv: expected the downloaded file.*--force$"):
        read_tables(root)
    (root / "items.tsv").unlink()
    with pytest.raises(DataError, match=r"items\.tsv: .*got no file.*--force$"):
        read_tables(root)
    (root / "manifest.json").write_text(json.dumps({"source": "x", "sha256": {}}))
    with pytest.raises(DataError, match=r"manifest\.json: expected a manifest.*--force$"):
        read_tables(root)


def test_invalid_archives_raise(tmp_path):
    with pytest.raises(DataError, match=r"x\.zip: expected MovieLens-100K, got a damaged archive"):
        parse_archive(tmp_path / "x.zip")
    (tmp_path / "x.zip").write_bytes(b"PK no")
    with pytest.raises(DataError, match="damaged archive"):
        parse_archive(tmp_path / "x.zip")
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("other", "")
    with pytest.raises(DataError, match="got another file"):
        parse_archive(tmp_path / "x.zip")
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("ml-100k/u.data", "")
    with pytest.raises(DataError, match=r"damaged archive .*u\.item"):
        parse_archive(tmp_path / "x.zip")
