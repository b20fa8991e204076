"""Helpers for tests of `face data import`: sample interactions, and calls of the real command."""

import io
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

from face_lightning.cli import main
from face_lightning.data.readers import PreparedFolder

HEADER = "user_id,item_id,rating,timestamp\n"
# Six users and eight items; user u rates items u to u + 3, later items higher.
ROWS = [(f"u{u}", f"i{(u + k) % 8}", 2 + k % 4, 1000 * u + k) for u in range(6) for k in range(4)]


def csv_text(rows=ROWS, separator=","):
    return HEADER.replace(",", separator) + "".join(separator.join(map(str, row)) + "\n" for row in rows)


def run(capsys, *arguments) -> tuple[int, str, str]:
    code = main(["data", "import", *map(str, arguments)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def refused(capsys, tmp_path, *arguments) -> str:
    """Return the one-line error of a rejected import; checks that it leaves no files."""
    before = sorted(tmp_path.rglob("*"))
    code, out, err = run(capsys, *arguments, "--out", tmp_path / "mine")
    assert (code, out) == (2, "")
    assert err.startswith("face: error: ")
    assert err.count("\n") == 1
    assert "; " in err  # the cure
    assert sorted(tmp_path.rglob("*")) == before
    return err


def imported(folder: Path, *arguments: object) -> bool:
    """Return whether an import succeeds and can be read; otherwise check for a one-line error and no files."""
    before = {path.name for path in folder.iterdir()}
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = main(["data", "import", *map(str, arguments), "--out", str(folder / "mine")])
    left = {path.name for path in folder.iterdir()}
    if code == 0:
        assert left == {*before, "mine"}
        assert PreparedFolder(folder / "mine").read().interactions.train.nnz > 0
        return True
    assert code == 2
    assert out.getvalue() == ""
    assert err.getvalue().startswith("face: error: ")
    assert err.getvalue().count("\n") == 1
    assert left == before
    return False
