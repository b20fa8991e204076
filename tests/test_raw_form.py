"""Raw files with public columns pass through the import that the script prints, and keep all original ids."""

import json
import pickle
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import coo_matrix

from benchmarks import raw_form
from benchmarks.summary_study import draw
from face_lightning.cli import main
from face_lightning.data.movielens import Film, MovieLensTables, Viewer, write_tables
from face_lightning.data.readers import PreparedFolder

NUM_USERS, NUM_ITEMS = 30, 12
GRID = np.random.default_rng(0).choice(4, p=[0.6, 0.15, 0.15, 0.1], size=(NUM_USERS, NUM_ITEMS))  # 3: not clicked
GAMES = [
    {"item_id": i, "app_id": f"{7000 - i}", "title": f"Game {i}", "tags": ["Puzzle"]} for i in range(NUM_ITEMS - 1)
]


@pytest.fixture
def given(tmp_path, monkeypatch):
    """A folder in RLMRec's format, without information about the last item."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "given"
    folder.mkdir()
    for number, name in enumerate(("trn", "val", "tst")):
        (folder / f"{name}_mat.pkl").write_bytes(pickle.dumps(coo_matrix((number == GRID).astype(np.float32))))
    (folder / "items.jsonl").write_text("".join(json.dumps(game) + "\n" for game in GAMES))
    return folder


def make(monkeypatch, capsys, *arguments):
    """Run the script, and the command that it prints."""
    monkeypatch.setattr(sys, "argv", ["raw_form", *map(str, arguments)])
    raw_form.main()
    face, *command = shlex.split(capsys.readouterr().out)
    assert (face, main(command)) == ("face", 0)
    return PreparedFolder("data/mine").read()


def num_pairs(interactions):
    return interactions.train.nnz + interactions.valid.nnz + interactions.test.nnz


def test_a_folder_becomes_clicks_and_items(given, monkeypatch, capsys):
    data = make(monkeypatch, capsys, "steam-vt", "--data", given, "--out", "raw")
    rows = Path("raw/clicks.csv").read_text().splitlines()
    names = [game["app_id"] for game in GAMES] + [f"item{NUM_ITEMS - 1}"]
    expected = [f"u{user},{names[item]}" for user, item in zip(*(GRID < 3).nonzero(), strict=True)]
    assert rows[0] == "user_id,item_id"
    assert sorted(rows[1:]) == sorted(expected) != rows[1:]
    assert num_pairs(data.interactions) == len(expected)
    texts = dict(zip(data.interactions.item_ids.tolist(), data.profiles.item_texts, strict=True))
    assert texts["7000"] == "Game 0, puzzle game."
    assert texts[f"item{NUM_ITEMS - 1}"] is None


def test_movielens_keeps_ratings_and_times(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    ratings = np.array([[u, i, 3 + (u + i) % 3, 100 * u + i] for u in range(1, 13) for i in range(1, 13)])
    films = tuple(Film(i, f"Film {i}", "1995", ("Drama",)) for i in range(1, 13))
    viewers = tuple(Viewer(u, 30, "F", "writer") for u in range(1, 13))
    (tmp_path / "given").mkdir()
    write_tables(MovieLensTables(ratings, films, viewers), tmp_path / "given", "a test")
    data = make(monkeypatch, capsys, "ml-100k", "--data", "given", "--out", "raw")
    assert Path("raw/clicks.csv").read_text().startswith("user_id,item_id,rating,timestamp\n1,1,5,101\n")
    assert Path("raw/users.csv").read_text().startswith("user_id,occupation\n1,writer\n")
    assert num_pairs(data.interactions) == (ratings[:, 2] >= 4).sum()
    assert data.profiles.item_labels[0] == "Film 1"


def test_items_of_one_id_and_no_items_are_reported(given, monkeypatch, capsys):
    doubled = [*GAMES[:-1], {**GAMES[-1], "app_id": "7000"}]
    (given / "items.jsonl").write_text("".join(json.dumps(game) + "\n" for game in doubled))
    with pytest.raises(SystemExit, match="expected every app_id once"):
        make(monkeypatch, capsys, "steam-vt", "--data", given, "--out", "raw")
    (given / "items.jsonl").unlink()
    with pytest.raises(SystemExit, match="expected the metadata"):
        make(monkeypatch, capsys, "steam-vt", "--data", given, "--out", "raw")


def test_a_sample_is_of_the_items_with_the_most_clicks(given, tmp_path):
    raw_form.write_raw("steam-vt", given, tmp_path)
    rows = [row.split(",") for row in draw(tmp_path, 7, 10).read_text().splitlines()[1:]]
    counts = (GRID < 3).sum(0)
    names = np.array([game["app_id"] for game in GAMES] + [f"item{NUM_ITEMS - 1}"])
    of_sample = np.isin(names, [item for _, item in rows])
    assert of_sample.sum() == 7
    assert counts[of_sample].min() >= counts[~of_sample].max()
    users = [user for user, _ in rows]
    assert len(set(users)) == 10
    assert min(users.count(user) for user in users) >= 5
