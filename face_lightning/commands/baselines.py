"""`face baselines`: fit baselines on any data set, select their settings on validation, and test them once."""

import argparse
import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jsonargparse import ArgumentParser, Namespace
from rich.console import Console
from rich.table import Table

from face_lightning.baselines import EASE, Baseline, ItemKNN, Popularity
from face_lightning.baselines.evaluation import BaselineRanker, evaluate
from face_lightning.commands import CommandParser
from face_lightning.commands.stage import FaceCLI
from face_lightning.commands.steps import Steps
from face_lightning.commands.unmeasured import require_pairs
from face_lightning.data.datamodule import InteractionDataModule
from face_lightning.errors import ConfigurationError
from face_lightning.files import strict_json, write_atomically
from face_lightning.runs.recorder import peak_mib, write_test_users

BASELINES: tuple[type[Baseline], ...] = (Popularity, ItemKNN, EASE)
TOP_K = (5, 10, 20)
_MONITOR = "val/recall@20"


class _DataCLI(FaceCLI):
    """Reads the configuration of a stage, and builds its data module only."""

    def before_instantiate_classes(self) -> None:
        """Skip the checks of a run."""

    def instantiate_classes(self) -> None:
        """Build the data module."""
        parser = ArgumentParser()
        parser.add_class_arguments(InteractionDataModule, "data")
        config = Namespace({"data": self.config[self.subcommand].data})  # type: ignore[no-untyped-call]
        self.datamodule = parser.instantiate(config).data

    def _run_subcommand(self, subcommand: str) -> None:
        """Do not run anything."""


def read_data(arguments: Sequence[str]) -> InteractionDataModule:
    """Build the data module of a stage's configuration.

    Args:
        arguments: Options of `face fit`; without `--config`, only those of `--data` are needed.
    """
    names = {argument.partition("=")[0] for argument in arguments}
    model = () if {"--config", "-c"} & names else ("--model", "PretrainingStage", "--model.backbone", "GMF")
    data: InteractionDataModule = _DataCLI(["validate", *model, *arguments]).datamodule
    return data


class Choice(NamedTuple):
    """A baseline fitted with the best setting on validation, the scores of all settings, and its time to fit."""

    baseline: Baseline
    setting: Mapping[str, Any]
    scores: list[tuple[Mapping[str, Any], float]]
    seconds: float


def choose(
    kind: type[Baseline],
    data: InteractionDataModule,
    limits: Mapping[str, Any],
    progress: Callable[[str], None] | None = None,
) -> Choice:
    """Fit a baseline with every setting of its grid, and select the best one on validation.

    Args:
        kind: Class of the baseline.
        data: Data module.
        limits: Arguments of the constructor that are not in the grid.
        progress: Called with a description of each setting before it is fitted.

    Raises:
        ConfigurationError: If the baseline does not fit into memory.
    """
    scores: list[tuple[Mapping[str, Any], float]] = []
    best: tuple[float, Baseline, Mapping[str, Any], float] | None = None
    train = data.interactions.train
    for setting in kind.grid:
        if progress is not None:
            progress(f"{kind.__name__} {described(setting)}".strip())
        baseline, started = kind(**setting, **limits), time.perf_counter()
        baseline.fit(train)
        seconds = time.perf_counter() - started
        ranker = BaselineRanker(baseline, train)
        score = evaluate(ranker, data.val_dataloader(), data.num_items, "val/", (20,)).metrics[_MONITOR]
        scores.append((setting, score))
        if best is None or score > best[0]:
            best = score, baseline, setting, seconds
    assert best is not None, "a grid has at least one setting"
    return Choice(best[1], best[2], scores, best[3])


def test(choice: Choice, data: InteractionDataModule, run_dir: Path) -> dict[str, Any]:
    """Test the selected baseline, write result.json and test_users.parquet, and return the content of result.json."""
    interactions = data.interactions
    ranker = BaselineRanker(choice.baseline, interactions.train)
    metrics, users = evaluate(ranker, data.test_dataloader(), data.num_items, "test/", TOP_K)
    name = type(choice.baseline).__name__
    identity = {"baseline": name, "setting": choice.setting, "mask_seen": data.mask_seen}
    identity["data"] = interactions.fingerprint
    result = {
        "stage": "baseline",
        "backbone": name,
        "dataset": interactions.name,
        "seed": 0,
        "fingerprint": hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest(),
        "setting": dict(choice.setting),
        "epochs": 0,
        "seconds": round(choice.seconds, 1),
        "peak_mib": peak_mib(),
        "best": {"monitor": _MONITOR, "score": max(score for _, score in choice.scores)},
        "searched": [{"setting": dict(setting), "score": score} for setting, score in choice.scores],
        "metrics": metrics,
    }
    run_dir.mkdir(parents=True, exist_ok=True)
    write_test_users(users, interactions.user_ids, run_dir / "test_users.parquet")
    write_atomically(run_dir / "result.json", strict_json(result, indent=2) + "\n")
    return result


def described(setting: Mapping[str, Any]) -> str:
    """Format a setting for display."""
    return ", ".join(f"{key} {value}" for key, value in setting.items())


def result_table(results: Sequence[Mapping[str, Any]]) -> Table:
    """Table of the test metrics of baselines, one row each."""
    columns = [f"{metric}@{k}" for k in TOP_K for metric in ("Recall", "NDCG")]
    table = Table("", "setting", *columns, "seconds", title="test; settings chosen on validation")
    for result in results:
        values = [f"{result['metrics'][f'test/{column.lower()}']:.4f}" for column in columns]
        table.add_row(result["backbone"], described(result["setting"]), *values, f"{result['seconds']:.1f}")
    return table


def main(argv: Sequence[str] | None = None) -> int:
    """Run the baselines, and print their results.

    Args:
        argv: Arguments after `face baselines`; `sys.argv[1:]` if None.

    Returns:
        Exit code 0.

    Raises:
        ConfigurationError: If the only baseline cannot be fitted, or the arguments are wrong.
        DataError: If the data have no validation or test pairs.
    """
    names = [kind.__name__ for kind in BASELINES]
    parser = CommandParser(
        prog="face baselines",
        description="Fit baselines on the data of a stage's configuration, choose their settings on validation, and "
        "test them once.",
        epilog="--config FILE and --data... are options of face fit; only the data section is used.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", nargs="+", choices=names, default=names, help="baselines to run")
    parser.add_argument("--out", type=Path, help="folder of the results (default: runs/DATASET/baselines)")
    parser.add_argument("--memory_gib", type=float, default=8.0, help="maximum memory of EASE in GiB (default: 8)")
    options, rest = parser.parse_known_args(argv)
    data = read_data(rest)
    require_pairs(data.interactions, "valid", "test")
    folder = options.out or Path("runs") / data.interactions.name / "baselines"
    console, results = Console(width=max(Console().width, 120)), []
    for kind in (kind for kind in BASELINES if kind.__name__ in options.only):
        try:
            with Steps(len(kind.grid)) as steps:
                choice = choose(kind, data, {"memory_gib": options.memory_gib} if kind is EASE else {}, steps)
        except ConfigurationError as error:
            if len(options.only) == 1:
                raise
            console.print(f"{kind.__name__} left out: {error}", highlight=False, soft_wrap=True)
            continue
        for setting, score in choice.scores if len(choice.scores) > 1 else ():
            console.print(f"{kind.__name__} {described(setting)}: {_MONITOR} {score:.4f}", highlight=False)
        results.append(test(choice, data, folder / kind.__name__.lower()))
    console.print(result_table(results))
    console.print(f"results and metrics of every user: {folder}", highlight=False, soft_wrap=True)
    return 0
