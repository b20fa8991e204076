import pytest

from face_lightning.cli import main as face
from face_lightning.commands.data import main
from face_lightning.errors import ConfigurationError


def test_prints_location_contents_and_terms(recbole_wheel, tmp_path, capsys):
    root = tmp_path / "root"
    arguments = ["ml-100k", "--root", str(root), "--archive", str(recbole_wheel)]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert f"{root}: written, from {recbole_wheel.name}" in printed
    assert "3 users, 4 items, 6 ratings" in printed
    assert "research use, no redistribution, cite Harper and Konstan (2015)" in printed
    assert main(arguments) == 0
    assert "already there and intact" in capsys.readouterr().out
    assert main([*arguments, "--force", "--quiet"]) == 0
    assert capsys.readouterr().out == ""


def test_unknown_name_lists_the_known_ones():
    with pytest.raises(ConfigurationError, match="name: expected one of ml-100k, got 'ml-1m'"):
        main(["ml-1m"])


@pytest.mark.parametrize(
    "arguments", [[], ["ml-100k", "--bogus"], ["import"], ["import", "a", "--core", "x"], ["show"]]
)
def test_mistakes_are_one_line(arguments, capsys):
    assert face(["data", *arguments]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("face: error: ")
    assert printed.err.count("\n") == 1
    assert "--help" in printed.err
