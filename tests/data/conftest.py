"""Fixtures: a miniature MovieLens-100K in both of its layouts, and small folders of matrices."""

import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import coo_matrix

from tests.data.importing import csv_text

# Three viewers, four films; film 3 is "unknown" in MovieLens.
RATINGS = [(2, 1, 3), (1, 2, 5), (1, 1, 4), (10, 4, 5), (2, 2, 4), (1, 3, 1)]
FLAGS = {1: "0" * 19, 2: "0" * 19, 3: "1" + "0" * 18, 4: "0" * 19}
FLAGS[1] = "0001110" + "0" * 12  # Animation, Children's, Comedy
FLAGS[2] = "0100001" + "010" + "0" * 9  # Action, Crime, Drama
FLAGS[4] = "0" * 8 + "1" + "0" * 10  # Drama


@pytest.fixture
def grouplens_zip(tmp_path: Path) -> Path:
    """Archive in the layout of files.grouplens.org, with titles in latin-1."""
    films = [
        ("1", "Toy Story (1995)", FLAGS[1]),
        ("4", "Double vie de Véronique, La (Double Life of Veronique, The) (1991)", FLAGS[4]),
        ("2", "Godfather, The (1972)", FLAGS[2]),
        ("3", "unknown", FLAGS[3]),
    ]
    item = "".join(f"{i}|{title}|01-Jan-1995||http://x|{'|'.join(flags)}\n" for i, title, flags in films)
    path = tmp_path / "ml-100k.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("ml-100k/u.item", item.encode("latin-1"))
        archive.writestr("ml-100k/u.data", "".join(f"{u}\t{i}\t{r}\t{100 + i}\n" for u, i, r in RATINGS))
        archive.writestr("ml-100k/u.user", "10|53|F|other|94043\n1|24|M|technician|85711\n2|16|F|student|T8H1N\n")
    return path


@pytest.fixture
def recbole_wheel(tmp_path: Path) -> Path:
    """The same content in the layout of RecBole's wheel: titles in UTF-8, genres in another order."""
    films = [
        "2\tGodfather, The\t1972\tDrama Crime Action",
        "1\tToy Story\t1995\tAnimation Children's Comedy",
        "4\tDouble vie de Véronique, La (Double Life of Veronique, The) (1991)\tV\tDrama",
        "3\tunkonwn\tunkonwn\tunknown",
    ]
    users = ["1\t24\tM\ttechnician\t85711", "2\t16\tF\tstudent\tT8H1N", "10\t53\tF\tother\t94043"]
    parts = {
        "inter": ["user_id:token\titem_id:token\trating:float\ttimestamp:float"]
        + [f"{u}\t{i}\t{r}\t{100 + i}" for u, i, r in reversed(RATINGS)],
        "item": ["item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq", *films],
        "user": ["user_id:token\tage:token\tgender:token\toccupation:token\tzip_code:token", *users],
    }
    path = tmp_path / "recbole-1.2.1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for part, lines in parts.items():
            archive.writestr(f"recbole/dataset_example/ml-100k/ml-100k.{part}", "\n".join(lines) + "\n")
    return path


@pytest.fixture
def rlmrec_folder(tmp_path: Path) -> Path:
    """Three users and four items; the training items of user u are u and u + 1."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    pairs = {
        "trn": ([0, 0, 1, 1, 2, 2], [0, 1, 1, 2, 2, 3]),
        "val": ([0, 1], [2, 3]),
        "tst": ([0, 2], [3, 0]),
    }
    for split, (rows, columns) in pairs.items():
        matrix = coo_matrix((np.ones(len(rows)), (rows, columns)), shape=(3, 4))
        (folder / f"{split}_mat.pkl").write_bytes(pickle.dumps(matrix))
    return folder


@pytest.fixture
def shared_data() -> Path:
    """Folder of real data sets, which are not part of the repository."""
    default = Path(__file__).parents[3] / "shared" / "data"
    folder = Path(os.environ.get("FACE_SHARED_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"no real data in {folder}; name their folder in FACE_SHARED_DATA")
    return folder


@pytest.fixture
def clicks(tmp_path: Path) -> Path:
    path = tmp_path / "clicks.csv"
    path.write_text(csv_text())
    return path
