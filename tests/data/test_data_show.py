import sys

import numpy as np
import pytest

from face_lightning.cli import main
from face_lightning.commands.data_show import degree_bins


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "clicks.csv").write_text(
        "user_id,item_id\n" + "".join(f"[red]u{u},i{i}\n" for u in range(9) for i in range(u + 1))
    )
    assert main(["data", "import", str(tmp_path / "clicks.csv"), "--out", str(tmp_path / "mine"), "--quiet"]) == 0
    return tmp_path / "mine"


def test_shows_counts_steps_and_degrees(folder, capsys):
    assert main(["data", "show", str(folder)]) == 0
    printed = capsys.readouterr().out
    assert "duplicate pairs removed, earliest kept" in printed
    assert "interactions of users: min 1, median 5, mean 5.0, max 9" in printed
    bars = {line.split()[0]: line.split()[1:] for line in printed.splitlines() if "█" in line}
    assert bars["4-7"] == ["█" * 40, "4"]
    assert bars["8-15"] == ["█" * 20, "2"]
    assert "users with the most interactions: [red]u8 (9), [red]u7 (8)" in printed
    assert "without text" in printed
    assert "9 users, 9 items" in printed


def test_bins_double_and_cover_all_users():
    assert degree_bins(np.array([0, 1, 1, 2, 3, 9])) == [("0", 1), ("1", 2), ("2-3", 2), ("4-7", 0), ("8-15", 1)]
    assert degree_bins(np.array([4])) == [("4-7", 1)]


def test_mistakes_in_one_line(folder, tmp_path, capsys):
    assert main(["data", "show", str(tmp_path)]) == 2
    assert "create it with: face data import FILE" in capsys.readouterr().err
    assert main(["data", "show"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    (folder / "users.parquet").write_bytes(b"PAR1")
    assert main(["data", "show", str(folder)]) == 2
    assert "got another SHA-256; import the data again" in capsys.readouterr().err


def test_picture_shows_the_degrees(folder, tmp_path, capsys):
    image = pytest.importorskip("matplotlib.image")
    path = tmp_path / "degrees.png"
    assert main(["data", "show", str(folder), "--plot", str(path)]) == 0
    pixels = image.imread(path)[..., :3]
    assert pixels.shape == (400, 600, 3)
    for colour, least in (((0.122, 0.467, 0.706), 20), ((1.0, 0.498, 0.055), 100)):  # users' curve below items'
        assert (np.abs(pixels - colour).max(axis=2) < 0.02).sum() > least
    assert main(["data", "show", str(folder), "--plot", str(tmp_path / "nowhere" / "degrees.png")]) == 2
    assert "give a path such as degrees.png" in capsys.readouterr().err
    assert main(["data", "show", str(folder), "--plot", str(tmp_path / "degrees.odd")]) == 2
    assert not (tmp_path / "degrees.odd").exists()


def test_picture_needs_matplotlib(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert main(["data", "show", str(folder), "--plot", str(tmp_path / "degrees.png")]) == 2
    assert "install it with pip install matplotlib, or omit --plot" in capsys.readouterr().err
    assert not (tmp_path / "degrees.png").exists()
