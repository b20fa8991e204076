"""The code blocks of README.md run: shell blocks line by line with shortened stages, Python blocks unchanged."""

import json
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from face_lightning.cli import fit, main
from face_lightning.data.fetch import fetch_movielens_100k
from face_lightning.data.movielens import read_tables
from face_lightning.errors import FaceError

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
PAGES = sorted(path for path in ROOT.glob("**/*.md") if not path.relative_to(ROOT).parts[0].startswith("."))
SHORT = ["--trainer.max_epochs", "1", "--trainer.limit_train_batches", "2", "--trainer.enable_progress_bar", "false"]
FEW = ["--model.init_args.words.init_args.retrieval_limit", "20"]


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like a clone after `make demo`: configurations, data and finished runs."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "configs").symlink_to(ROOT / "configs")
    (folder / "data").mkdir()
    try:
        fetch_movielens_100k(ROOT / "data" / "ml-100k", quiet=True)
    except FaceError as error:
        pytest.skip(f"README's commands need MovieLens-100K, which cannot be fetched: {error}")
    (folder / "data" / "ml-100k").symlink_to(ROOT / "data" / "ml-100k")
    write_own_files(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for stage in ("stage1", "stage2"):
            few = [] if stage == "stage1" else FEW
            assert fit(["--config", f"configs/ml-100k/ials/{stage}.yaml", *SHORT, *few]) == 0
    runs = folder / "runs" / "ml-100k" / "ials"
    (runs / "stage3").symlink_to(runs / "stage2")  # commands treat both in the same way
    return folder


def write_own_files(folder: Path) -> None:
    """Files of a user in the format that README.md shows, made of some users and movies of MovieLens."""
    tables = read_tables(folder / "data" / "ml-100k")
    few = tables.ratings[(tables.ratings[:, 0] <= 200) & (tables.ratings[:, 1] <= 300)]
    rows = (f"v{viewer},{film},{rating}\n" for viewer, film, rating, _ in few.tolist())
    (folder / "clicks.csv").write_text("user_id,item_id,rating\n" + "".join(rows))
    films = ({"item_id": film.film_id, "title": film.title, "tags": film.genres} for film in tables.films[:300])
    (folder / "items.jsonl").write_text("".join(json.dumps(film) + "\n" for film in films))


@pytest.fixture(scope="module")
def commands(project: Path) -> list[str]:
    """Run all commands of README.md in order; returns their first words."""
    ran = []
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project)
        for line in filter(None, "\n".join(blocks("sh")).splitlines()):
            command, *arguments = shlex.split(line)
            if command == "make":
                subprocess.run(["make", "--dry-run", *arguments], cwd=ROOT, check=True, capture_output=True)
            else:
                assert command in ("face", "face-fit"), f"README has a command that no test knows: {line}"
                short = SHORT if command == "face-fit" else []
                few = FEW if "stage2.yaml" in line or "stage3.yaml" in line else []
                assert {"face": main, "face-fit": fit}[command]([*arguments, *short, *few]) == 0, line
            ran.append(command)
    return ran


def test_shell_blocks_run(commands: list[str], project: Path) -> None:
    assert commands.count("make") == 2
    assert commands.count("face-fit") == 2
    for path in ("runs/own/stage2/descriptors.parquet", "report.html", "exported/README.md"):
        assert (project / path).is_file()


def test_own_data_takes_four_commands() -> None:
    (block,) = (block for block in blocks("sh") if "face data import" in block)
    assert len(block.splitlines()) == 4


@pytest.mark.parametrize("number", range(len(blocks("python"))))
@pytest.mark.usefixtures("commands")
def test_python_blocks_run(number: int, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    block = blocks("python")[number]
    assert len([line for line in block.splitlines() if line]) <= 15
    monkeypatch.chdir(project)
    exec(block, {"__name__": "__main__"})


def test_readme_is_one_page() -> None:
    assert len(README.splitlines()) <= 200


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_named_path_exists(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    for path in re.findall(r"`((?:configs|benchmarks|tests|face_lightning|docker)/[\w./-]+)`", text):
        assert (ROOT / path).exists() or "/decorrelated" in path, path  # the file that CONTRIBUTING's example adds
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if not target.startswith("http"):
            path, _, section = target.partition("#")
            named = page.parent / path if path else page
            assert named.exists(), target
            headings = re.findall(r"^#+ (.+)$", named.read_text(), flags=re.MULTILINE) if section else []
            assert not section or section in [
                re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in headings
            ]
