import json
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from rich.progress import Progress

from face_lightning.cli import main
from face_lightning.commands import recommend
from face_lightning.recommending.recommender import Recommender
from tests.recommending.test_recommender import write_run


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_run(tmp_path / "run")


def test_a_table_names_items_and_their_words(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recommend", "--run", str(run), "--users", "ann", "bob", "-k", "1", "--filter-seen", "train"]) == 0
    lines = [line.replace("│", " ").split() for line in capsys.readouterr().out.splitlines()]
    assert ["ann", "20", "Blade", "3.000", "w20"] in lines
    assert ["bob", "40", "Dune", "3.000", "w40"] in lines


def test_a_table_of_a_run_without_words(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run / "descriptors.parquet").unlink()
    assert main(["recommend", "--run", str(run), "--users", "ann", "--deny", "40", "50"]) == 0
    assert main(["similar", "--run", str(run), "--users", "ann", "-k", "1"]) == 0
    shown = capsys.readouterr().out
    assert "nothing is left to recommend" in shown
    assert "Zoë" in shown
    assert "words" not in shown


@pytest.mark.parametrize("suffix", ["parquet", "jsonl"])
def test_all_users_go_to_a_file(run: Path, tmp_path: Path, suffix: str, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / f"out.{suffix}"
    assert main(["recommend", "--run", str(run), "-k", "2", "--allow", "20", "30", "40", "--out", str(out)]) == 0
    assert capsys.readouterr().out == f"{out}: items for 3 users\n"
    expected = Recommender.load(run).recommend(k=2, allow=["20", "30", "40"])
    found: dict[str, list[str]] = {}
    if suffix == "parquet":
        for row in pq.read_table(out).to_pylist():
            found.setdefault(row["user_id"], []).append(row["item_id"])
    else:
        found = {row["user_id"]: row["item_ids"] for row in map(json.loads, out.read_text().splitlines())}
    assert found == {
        user: [item for item in items if item] for user, items in zip(expected.query_ids, expected.ids, strict=True)
    }


def test_ids_may_be_read_from_files(run: Path, tmp_path: Path) -> None:
    (tmp_path / "users.txt").write_text("bob\n7\nnobody\n")
    (tmp_path / "items.txt").write_text("20\n")
    out = tmp_path / "out.parquet"
    ids = ["--users", str(tmp_path / "users.txt"), "--allow", str(tmp_path / "items.txt"), "--unknown", "skip"]
    assert main(["recommend", "--run", str(run), *ids, "--out", str(out)]) == 0
    assert [(row["user_id"], row["item_id"]) for row in pq.read_table(out).to_pylist()] == [("bob", "20"), ("7", "20")]


def test_new_users_by_their_history(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["recommend", "--run", str(run), "--history", "10", "20", "-k", "1"]) == 0
    assert ["history", "30", "Cats"] in [
        line.replace("│", " ").split()[:3] for line in capsys.readouterr().out.splitlines()
    ]
    monkeypatch.setattr("face_lightning.commands.recommend._CHUNK", 2)
    histories = tmp_path / "new.jsonl"
    histories.write_text("".join(json.dumps({"user_id": f"n{row}", "item_ids": [10, 50]}) + "\n" for row in range(5)))
    out = tmp_path / "out.jsonl"
    assert main(["recommend", "--run", str(run), "--history", str(histories), "-k", "2", "--out", str(out)]) == 0
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert [line["user_id"] for line in lines] == [f"n{row}" for row in range(5)]
    (top,) = Recommender.load(run).recommend_history([["10", "50"]], k=2).ids.tolist()
    assert all(line["item_ids"] == top for line in lines)


@pytest.mark.parametrize("terminal", [True, False])
@pytest.mark.parametrize("histories", [False, True], ids=["users", "histories"])
def test_a_progress_bar_is_only_shown_on_a_terminal(
    run: Path,
    tmp_path: Path,
    histories: bool,
    terminal: bool,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    bars: list[Progress] = []
    create = recommend.progress_bar

    def keep_bar() -> Progress:
        bars.append(create())
        return bars[0]

    monkeypatch.setattr(recommend, "progress_bar", keep_bar)
    out = tmp_path / "out.jsonl"
    given = ["--history", "10", "20"] if histories else []
    assert main(["recommend", "--run", str(run), *given, "--out", str(out)]) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith(str(out))  # the progress bar is not in the output
    assert ("histories" if histories else "users") in printed.err if terminal else not printed.err
    assert bars[0].tasks[0].completed == (1 if histories else 3)


def test_similar_items_go_to_a_file(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.parquet"
    assert main(["similar", "--run", str(run), "--items", "10", "30", "-k", "1", "--out", str(out)]) == 0
    rows = [(row["item_id"], row["similar_item_id"], row["rank"]) for row in pq.read_table(out).to_pylist()]
    assert rows == [("10", "20", 1), ("30", "20", 1)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["recommend"], "users: expected at most 20 to show, got 3; name fewer, or write a file with --out"),
        (["recommend", "--users", "eve"], "users: eve not among the users of this run"),
        (["recommend", "--history", "99"], "items: 99 not among the items of this run"),
        (["recommend", "--users", "ann", "--allow", "99"], "items: 99 not among"),
        (["recommend", "--users", "ann", "--history", "10"], "argument --history: not allowed with argument --users"),
        (["recommend", "--users", "ann", "-k", "0"], "k: expected at least 1, got 0"),
        (
            ["recommend", "--users", "ann", "--device", "abacus"],
            "device: expected cpu or one of this machine, got abacus",
        ),
        (["recommend", "--out", "a.txt"], "out: expected a file that ends in .parquet, .csv, .jsonl"),
        (["similar"], "one of the arguments --items --users is required"),
        (["similar", "--items", *map(str, range(21))], "items: expected at most 20 to show, got 21"),
        (["similar", "--users", "eve"], "users: eve not among the users"),
    ],
)
def test_mistakes(run: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([arguments[0], "--run", str(run), *arguments[1:]]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("face: error: ")
    assert message in line


def test_a_folder_without_a_finished_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recommend", "--run", str(tmp_path), "--users", "1"]) == 2
    assert "run: expected the folder of a finished run, but" in capsys.readouterr().err
