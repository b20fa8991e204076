"""Resolved options of every shipped run: python -m tests.shipped_runs rewrites tests/shipped_runs.json.

The file holds the resolved options that are usual for each stage, and for each run a line with those that
differ. Write it anew only for a change that is meant, and look at its difference.
"""

import contextlib
import io
import json
import os
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from face_lightning.cli import main
from face_lightning.commands.config_files import read_options

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = ROOT / "configs"
GOLDEN = Path(__file__).with_suffix(".json")
FILES = {path: yaml.safe_load(path.read_text()) for path in sorted(CONFIGS.glob("*/**/*.yaml"))}
RUNS = [path for path, options in FILES.items() if "run_dir" in options]
SETS = [path for path in FILES if path.stem in ("ablations", "comparison") and path.parent.name != "recipes"]

STAGE = "model.class_path"
CHOICES = ("data.reader", "model.backbone", "model.grounding", "model.scheduler", "model.text")
Options = dict[str, Any]


def print_config(path: Path) -> str:
    """Output of `face fit --config path --print_config`."""
    out = io.StringIO()
    try:
        with contextlib.redirect_stdout(out):
            code: object = main(["fit", "--config", str(path), "--print_config"])
    except SystemExit as stopped:
        code = stopped.code
    assert code == 0, path
    return out.getvalue()


def resolve_all(folder: Path) -> dict[str, Options]:
    """Flat resolved options of every shipped run by run folder, as if each had been started in `folder`."""
    left = {path: read_options(path) for path in RUNS}
    found: dict[str, Options] = {}
    with contextlib.chdir(folder):
        while left:
            ready = [path for path, options in left.items() if options.get("init_from") in (None, *found)]
            assert ready, f"no shipped run to start from: {[str(path) for path in left]}"
            for path in ready:
                run_dir = Path(left.pop(path)["run_dir"])
                run_dir.mkdir(parents=True)
                (run_dir / "config.yaml").write_text(print_config(path))
                assert str(run_dir) not in found, "two runs share a folder"
                found[str(run_dir)] = dict(flatten(yaml.safe_load((run_dir / "config.yaml").read_text())))
    return found


def flatten(options: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Options by dotted name; classes by their own names, wherever they live, and those of `CHOICES` as one value."""
    for key, value in options.items():
        name = f"{prefix}{key}".replace("init_args.", "")
        if isinstance(value, dict):
            inner = flatten(value, f"{name}.")
            if name in CHOICES:
                yield name, {key.removeprefix(f"{name}."): value for key, value in inner}
            else:
                yield from inner
        else:
            yield name, value.rpartition(".")[2] if key == "class_path" else value


def agrees(wanted: Any, found: Any) -> bool:
    """Whether values are equal, except for additional arguments of a class."""
    if isinstance(wanted, dict) and isinstance(found, dict):
        return all(key in found and found[key] == value for key, value in wanted.items())
    return bool(wanted == found)


def usual(runs: Sequence[Options]) -> Options:
    """The most common value of each option, without options that most runs lack."""
    values: dict[str, Counter[str]] = {}
    for run in runs:
        for key, value in run.items():
            values.setdefault(key, Counter())[json.dumps(value)] += 1
    return {
        key: json.loads(counts.most_common(1)[0][0]) for key, counts in values.items() if 2 * counts.total() > len(runs)
    }


def compact(runs: Mapping[str, Options]) -> str:
    """JSON of all runs: the most common options of each stage, and one line per run with its differences."""
    stages = {
        stage: dict(sorted(usual([run for run in runs.values() if run[STAGE] == stage]).items()))
        for stage in sorted({run[STAGE] for run in runs.values()})
    }
    lines = []
    for name, run in sorted(runs.items()):
        stage = stages[run[STAGE]]
        differing = {key: value for key, value in run.items() if key not in stage or stage[key] != value}
        line = {"stage": run[STAGE], **differing}
        lines.append(f"    {json.dumps(name)}: {json.dumps({key: line[key] for key in line if key != 'run_dir'})}")
    head = json.dumps({"stages": stages}, indent=2)[:-2]
    return f'{head},\n  "runs": {{\n' + ",\n".join(lines) + "\n  }\n}\n"


def expected() -> dict[str, Options]:
    """Options that each run must resolve to."""
    golden = json.loads(GOLDEN.read_text())
    found = {}
    for name, run in golden["runs"].items():
        found[name] = {**golden["stages"][run.pop("stage")], **run, "run_dir": name}
    return found


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        GOLDEN.write_text(compact(resolve_all(Path(scratch))))
    print(f"{os.path.relpath(GOLDEN)}: {len(RUNS)} runs")
