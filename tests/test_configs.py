"""Every shipped configuration resolves to its recorded values, and shares no long block of lines with another."""

import re
from pathlib import Path

import pytest

from face_lightning.commands.ablate import read_set
from face_lightning.commands.config_files import read_options
from tests.shipped_runs import CONFIGS, FILES, RUNS, SETS, agrees, expected, resolve_all

MOST_REPEATED = 0.25


def name(path: Path) -> str:
    """Path relative to configs/, as the id of a test."""
    return path.relative_to(CONFIGS).as_posix()


def significant_lines(text: str) -> list[str]:
    """Lines without comments and blank lines, indentation included."""
    lines = (re.sub(r"(^|\s)#.*", "", line).rstrip() for line in text.splitlines())
    return [line for line in lines if line]


def repeated_share(texts: list[str]) -> float:
    """Share of lines in blocks of three or more successive lines that also occur in another text."""
    files = [significant_lines(text) for text in texts]
    homes: dict[tuple[str, ...], set[int]] = {}
    for number, lines in enumerate(files):
        for start in range(len(lines) - 2):
            homes.setdefault(tuple(lines[start : start + 3]), set()).add(number)
    repeated = {
        (number, start + offset)
        for number, lines in enumerate(files)
        for start in range(len(lines) - 2)
        if len(homes[tuple(lines[start : start + 3])]) > 1
        for offset in range(3)
    }
    return len(repeated) / sum(map(len, files))


def test_repeated_lines_are_counted() -> None:
    one = "# title\na: 1\n\nb:\n  c: 2 # why\n  d: 3\ne: 4\n"
    other = "b:\n  c: 2\n  d: 3\nx: 1\ny: 2\n"
    assert repeated_share([one, other]) == 6 / 10
    assert repeated_share([one, other.replace("  d", "   d")]) == 0, "indentation counts"
    assert repeated_share([one + one]) == 0, "within a file is not across files"


def test_few_lines_repeat() -> None:
    assert repeated_share([path.read_text() for path in FILES]) <= MOST_REPEATED


def test_the_tree_is_uniform() -> None:
    """Configurations lie at configs/DATA/BACKBONE/STAGE.yaml, and set the run folder of the same path."""
    assert {"stage1", "control", "con", "stage2", "stage3"} == {path.stem for path in RUNS}
    for path in RUNS:
        assert path.parents[2] == CONFIGS
        default = f"runs/{name(path).removesuffix('.yaml')}"
        assert FILES[path]["run_dir"] == (default.replace("/ials", "") if default.startswith("runs/own/") else default)


def test_every_shipped_run_resolves_to_what_it_did(tmp_path: Path) -> None:
    found = resolve_all(tmp_path)
    wanted = expected()
    assert found.keys() == wanted.keys()
    different = [
        f"{run}: {key} {found[run].get(key)}, not {value}"
        for run, options in wanted.items()
        for key, value in options.items()
        if not agrees(value, found[run].get(key))
    ]
    assert not different


@pytest.mark.parametrize("path", SETS, ids=name)
def test_a_set_follows_the_chain_of_its_runs(path: Path) -> None:
    variants = read_set(path).variants
    assert len(variants) > 2
    for variant in variants:
        for step in variant.steps:
            start = read_options(step.config).get("init_from")
            before = next((run.config for run in variant.steps if run.name == step.init_from), None)
            assert start == (before and read_options(before)["run_dir"])
