"""`face demo`: the three stages on MovieLens-100K, from interactions to words."""

import argparse
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from face_lightning.commands.baselines import BASELINES, choose, test
from face_lightning.commands.config_files import shipped
from face_lightning.commands.describe import read_words, select, word_table
from face_lightning.commands.stage import main as run_stage
from face_lightning.data.datamodule import InteractionDataModule
from face_lightning.data.fetch import fetch_movielens_100k
from face_lightning.data.readers import MovieLens100K
from face_lightning.errors import ConfigurationError, MissingDependencyError
from face_lightning.reports.document import write_report
from face_lightning.runs.recorder import peak_mib
from face_lightning.runs.results import read_result, test_users
from face_lightning.significance import compare_paired

CONFIGS = Path("configs/ml-100k/ials")
CHAIN = {
    "stage1": "stage 1: least squares",
    "control": "control: no words",
    "stage2": "stage 2: words",
    "stage3": "stage 3: FACE",
}
FILMS = ("1", "50", "64", "96", "121", "127", "172", "234")
VIEWERS = ("1", "7", "42", "269")


def main(argv: Sequence[str] | None = None) -> int:
    """Download the data, run the stages that are not finished, and show the results.

    Args:
        argv: Arguments after `face demo`; `sys.argv[1:]` if None.

    Returns:
        Exit code 0.

    Raises:
        ConfigurationError: If the folder of configurations does not exist.
    """
    parser = argparse.ArgumentParser(prog="face demo", description="Run the three stages on MovieLens-100K.")
    parser.add_argument("--configs", type=Path, default=CONFIGS, help="folder of the configurations")
    parser.add_argument("--data", type=Path, default=Path("data/ml-100k"), help="folder of the data set")
    parser.add_argument("--runs", type=Path, default=Path("runs/ml-100k/ials"), help="folder of the runs")
    arguments = parser.parse_args(argv)
    configs = shipped(arguments.configs)
    if not (configs / "stage1.yaml").is_file():
        raise ConfigurationError(
            f"configs: expected a folder with stage1.yaml, got {configs}; leave --configs out for the shipped one"
        )
    console, started = Console(width=max(Console().width, 110)), time.perf_counter()
    fetched = fetch_movielens_100k(arguments.data, quiet=True)
    print(f"{fetched.root}: MovieLens-100K, research use only, no redistribution (LICENSE.txt there)")
    for name, title in CHAIN.items():
        console.rule(title)
        command = ["fit", "--config", str(configs / f"{name}.yaml"), "--if_exists", "skip"]
        command += ["--run_dir", str(arguments.runs / name), "--data.reader.init_args.root", str(arguments.data)]
        if name != "stage1":
            earlier = "stage2" if name == "stage3" else "stage1"
            command += ["--init_from", str(arguments.runs / earlier)]
        run_stage(command)
    console.rule("Test, read once for each run; the epoch was chosen on validation")
    show_results(console, arguments.runs, arguments.data)
    console.rule("Words, learnt from clicks and titles")
    words = read_words(arguments.runs / "stage3")
    console.print(word_table([*select(words, "item", FILMS), *select(words, "user", VIEWERS)]))
    show_next(console, arguments.runs)
    console.print(f"runs and TensorBoard's events: {arguments.runs} (tensorboard --logdir {arguments.runs})")
    console.print(f"took {time.perf_counter() - started:.0f} s, at most {peak_mib():,} MiB")
    return 0


def show_next(console: Console, runs: Path) -> None:
    """Write the report, and print its path and the command that opens the web page."""
    run, compared = runs / "stage3", [runs / name for name in ("stage1", "control", "baselines/ease")]
    try:
        report, *_ = write_report(run, compared, runs / "report.html")
    except MissingDependencyError as error:
        console.print(f"no report: {error}", highlight=False, markup=False, soft_wrap=True)
    else:
        console.print(f"report: {report}", highlight=False, markup=False, soft_wrap=True)
    console.print(f"explore it in a browser: face app --run {run}", highlight=False, markup=False, soft_wrap=True)


def show_results(console: Console, runs: Path, data: Path) -> None:
    """Print ranking metrics of all runs, their paired difference, and metrics of the words."""
    table = Table("", *(f"{metric}@{k}" for k in (5, 10, 20) for metric in ("Recall", "NDCG")))
    rows = test_baselines(data, runs / "baselines")
    rows |= {CHAIN[name]: read_result(runs / name)["metrics"] for name in ("stage1", "control", "stage3")}
    for title, metrics in rows.items():
        table.add_row(
            title, *(f"{metrics[f'test/{name}@{k}']:.4f}" for k in (5, 10, 20) for name in ("recall", "ndcg"))
        )
    console.print(table)
    face, control = (test_users(runs / name, "test/recall@20") for name in ("stage3", "control"))
    paired = compare_paired(face, control)
    console.print(
        f"stage 3 against the control, Recall@20, paired over {len(face)} users: "
        f"{paired.difference:+.4f}, t = {paired.statistic:.2f}, p = {paired.probability:.3f}"
    )
    health = Table("after", "words in use", "perplexity", "duplicate sets", "picks 1 of 10: items", "users")
    for name in ("stage2", "stage3"):
        metrics = read_result(runs / name)["metrics"]
        health.add_row(
            CHAIN[name],
            f"{metrics['codebook/items_active']:,.0f} by items, {metrics['codebook/active']:,.0f} by all",
            f"{metrics['codebook/items_perplexity']:,.0f} / {metrics['codebook/perplexity']:,.0f}",
            f"{metrics['codebook/items_duplicate_rate']:.1%} / {metrics['codebook/duplicate_rate']:.1%}",
            f"{metrics['words/retrieval_items@10']:.1%}",
            f"{metrics['words/retrieval_users@10']:.1%}",
        )
    console.print(health)


def test_baselines(data: Path, runs: Path) -> dict[str, Mapping[str, float]]:
    """Test metrics of the baselines on the same split, with settings selected on validation."""
    datamodule = InteractionDataModule(MovieLens100K(root=data))
    choices = {kind.__name__: choose(kind, datamodule, {}) for kind in BASELINES}
    return {name: test(choice, datamodule, runs / name.lower())["metrics"] for name, choice in choices.items()}
