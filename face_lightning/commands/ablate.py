"""`face ablate`: run a set of variants over several seeds, and compare them with a reference by paired tests."""

import re
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml
from rich.console import Console
from rich.table import Table

from face_lightning.commands import CommandParser
from face_lightning.commands.config_files import read_options, shipped
from face_lightning.commands.stage import main as run_stage
from face_lightning.errors import ConfigurationError
from face_lightning.imports import import_optional
from face_lightning.runs.results import read_result, test_users
from face_lightning.significance import compare_paired, correct_holm

METRICS = ("test/recall@20", "test/ndcg@20")
WORDS = (
    "codebook/items_perplexity",
    "codebook/active_fraction",
    "words/retrieval_items@10",
    "words/retrieval_users@10",
)
SHIPPED_SET = Path("configs/ml-100k/gmf/ablations.yaml")
_PLOTS = "plots of face ablate"
_NAME = re.compile(r"[\w-]+")
# Options that a variant may set; excludes those that name folders or change the trust policy.
_OPTION = re.compile(r"(trainer|model|data|checkpoint|early_stopping)(\.\w+)*\+?")


class Step(NamedTuple):
    """A run of a variant: its configuration, the run that it starts from, and its options."""

    name: str
    config: Path
    init_from: str | None
    options: Mapping[str, Any]


class Variant(NamedTuple):
    """A chain of runs, the last of which is compared."""

    name: str
    steps: list[Step]


class AblationSet(NamedTuple):
    """Contents of a YAML file of `face ablate`."""

    reference: str
    variants: list[Variant]


def read_set(path: Path) -> AblationSet:
    """Read a set of variants.

    The file may extend others by `base`. It contains:

    - `chain`: for each run, its `config` (a path relative to the file) and the run that it starts `from`;
    - `reference`: the variant that the others are compared with;
    - `variants`: for each, the options that its runs set, `{run: {option: value}}`, and optionally `last`, the run that
      is compared (by default the last of the chain).

    A run is shared by all variants that change neither its options nor those of the runs before it.

    Raises:
        ConfigurationError: If the file is missing, or names something that does not exist.
    """
    try:
        content = read_options(shipped(path), paths_are_files=False)
        chain, variants, reference = content["chain"], content["variants"], content["reference"]
    except (ConfigurationError, KeyError) as error:
        raise ConfigurationError(
            f"--set: expected a YAML file with chain, reference and variants, got {path} ({error}); see {SHIPPED_SET}"
        ) from error
    if reference not in variants:
        raise ConfigurationError(f"reference: expected one of {', '.join(variants)}, got {reference!r}; name a variant")
    for run in chain:
        if not _NAME.fullmatch(str(run)):
            raise ConfigurationError(f"chain: expected names of letters, digits, - and _, got {run!r}; rename that run")
    parsed = []
    for name, settings in variants.items():
        settings = dict(settings or {})
        last = settings.pop("last", list(chain)[-1])
        for run in (last, *settings):
            if run not in chain:
                raise ConfigurationError(
                    f"variants: {name!r} expected runs {', '.join(chain)}, got {run!r}; name a run of the chain"
                )
        for option in (option for options in settings.values() for option in options or ()):
            if not _OPTION.fullmatch(str(option)):
                raise ConfigurationError(
                    f"variants: {name!r} expected options of trainer, model, data, checkpoint or early_stopping, got "
                    f"{option!r}; type other options behind --, for all runs"
                )
        parsed.append(Variant(name, _steps(name, last, chain, settings, shipped(path).parent)))
    return AblationSet(reference, parsed)


def _steps(variant: str, last: str, chain: Mapping[str, Any], settings: Mapping[str, Any], folder: Path) -> list[Step]:
    """The runs that lead to `last`; from the first with settings of the variant on, they are named after it."""
    names, run = [last], chain[last].get("from")
    while run is not None:
        names.append(run)
        run = chain[run].get("from")
    steps: list[Step] = []
    is_changed = False
    for run in reversed(names):
        is_changed = is_changed or run in settings
        name = f"{run}/{_slug(variant)}" if is_changed else f"{run}/common"
        config = folder / chain[run]["config"]
        steps.append(Step(name, config, steps[-1].name if steps else None, settings.get(run, {})))
    return steps


def _slug(name: str) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in name).strip("-")


def run_variant(variant: Variant, seed: int, runs: Path, extra: Sequence[str]) -> Path:
    """Run the missing steps of a variant, resume interrupted ones, and return the folder of the last run."""
    folder = runs / str(seed)
    for step in variant.steps:
        command = ["fit", "--config", str(step.config), "--run_dir", str(folder / step.name), "--if_exists", "resume"]
        command += ["--seed_everything", str(seed)]
        if step.init_from is not None:
            command += ["--init_from", str(folder / step.init_from)]
        command += [f"--{option}={_text(value)}" for option, value in step.options.items()]
        run_stage([*command, *extra])
    return folder / variant.steps[-1].name


def _text(value: object) -> str:
    return value if isinstance(value, str) else yaml.safe_dump(value, default_flow_style=True).split("\n...")[0].strip()


def main(argv: Sequence[str] | None = None) -> int:
    """Run the set and show the comparison.

    Args:
        argv: Arguments after `face ablate`; `sys.argv[1:]` if None. Arguments after `--` are passed to every run.

    Returns:
        Exit code 0.
    """
    parser = CommandParser(prog="face ablate", description="Run a set of variants over seeds and compare them.")
    parser.add_argument("--set", type=Path, default=SHIPPED_SET, help=f"the set of variants (default {SHIPPED_SET})")
    parser.add_argument("--only", nargs="+", help="variants to run besides the reference (default: all)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="seeds of the runs (default: 0 1 2)")
    parser.add_argument("--runs", type=Path, default=Path("runs/ablations"), help="folder of the runs")
    parser.add_argument("--plot", type=Path, help="folder for one plot per metric; needs matplotlib")
    parser.add_argument("extra", nargs="*", help="arguments for every run, after --")
    arguments = parser.parse_args(argv)
    ablation = read_set(arguments.set)
    variants = _select_variants(ablation, arguments.only)
    if arguments.plot is not None:
        import_optional("matplotlib", extra="plot", purpose=_PLOTS)  # fails before hours of training
    runs = arguments.runs / arguments.set.stem
    folders = {
        variant.name: [run_variant(variant, seed, runs, arguments.extra) for seed in arguments.seeds]
        for variant in variants
    }
    console = Console(width=max(Console().width, 120))
    for metric in METRICS:
        console.print(comparison(folders, ablation.reference, metric))
    console.print(words(folders))
    if arguments.plot is not None:
        for metric in (*METRICS, *WORDS):
            print(plot(folders, metric, arguments.plot))
    return 0


def _select_variants(ablation: AblationSet, only: Sequence[str] | None) -> list[Variant]:
    """The reference and the variants named by `--only`, or all variants."""
    names = [variant.name for variant in ablation.variants]
    for name in only or []:
        if name not in names:
            raise ConfigurationError(f"--only: expected some of {', '.join(names)}, got {name!r}; name variants")
    selected = {ablation.reference, *(only or names)}
    return [variant for variant in ablation.variants if variant.name in selected]


def comparison(folders: Mapping[str, Sequence[Path]], reference: str, metric: str) -> Table:
    """Table of a metric: mean and standard deviation over seeds, and the paired difference from the reference.

    Differences are paired over users, whose values are means over seeds; p-values are corrected by Holm's method for
    the number of variants.
    """
    users = {name: np.mean([test_users(run, metric) for run in runs], axis=0) for name, runs in folders.items()}
    others = [name for name in folders if name != reference]
    compared = {name: compare_paired(users[name], users[reference]) for name in others}
    corrected = dict(zip(others, correct_holm([compared[name].probability for name in others]), strict=True))
    table = Table("", "mean ± sd over seeds", f"against {reference}", "t", "p", "p (Holm)", title=metric)
    for name, runs in folders.items():
        row = [_spread([read_result(run)["metrics"][metric] for run in runs])]
        if name in compared:
            difference, statistic, probability = compared[name]
            relative = difference / users[reference].mean() if users[reference].any() else 0.0
            row += [f"{difference:+.4f} ({relative:+.1%})", f"{statistic:.2f}", f"{probability:.3g}"]
            row.append(f"{corrected[name]:.3g}")
        table.add_row(name, *row)
    return table


def words(folders: Mapping[str, Sequence[Path]]) -> Table:
    """Table of the metrics of words, for variants that have words."""
    table = Table("", *(key.partition("/")[2] for key in WORDS), title="words")
    for name, runs in folders.items():
        metrics = [read_result(run)["metrics"] for run in runs]
        if WORDS[0] in metrics[0]:
            table.add_row(name, *(_spread([values[key] for values in metrics if key in values]) for key in WORDS))
    return table


def _spread(values: Sequence[float]) -> str:
    if not values:
        return ""
    digits = 0 if max(map(abs, values)) >= 10 else 4
    spread = f" ± {statistics.stdev(values):,.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):,.{digits}f}{spread}"


def plot(folders: Mapping[str, Sequence[Path]], metric: str, folder: Path) -> Path:
    """Plot a metric of all variants that have it: a point for each seed, and a bar at their mean.

    Returns:
        The PNG file.

    Raises:
        MissingDependencyError: If matplotlib is not installed.
    """
    figures = import_optional("matplotlib.figure", extra="plot", purpose=_PLOTS)
    values = {name: [read_result(run)["metrics"].get(metric) for run in runs] for name, runs in folders.items()}
    shown = {name: numbers for name, numbers in values.items() if None not in numbers}
    figure = figures.Figure(figsize=(8, 1 + 0.4 * len(shown)), layout="constrained")
    axes = figure.add_subplot()
    for row, numbers in enumerate(shown.values()):
        axes.plot(numbers, [row] * len(numbers), "o", color="tab:blue", alpha=0.6)
        axes.plot([statistics.mean(numbers)], [row], "|", color="black", markersize=18)
    axes.set_yticks(range(len(shown)), list(shown))
    axes.invert_yaxis()
    axes.set_xlabel(metric)
    axes.grid(axis="x", alpha=0.3)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{_slug(metric)}.png"
    figure.savefig(path, dpi=150)
    return path
