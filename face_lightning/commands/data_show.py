"""`face data show FOLDER`: contents, provenance and degree distribution of a prepared folder."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from face_lightning.commands import CommandParser
from face_lightning.commands.steps import Steps
from face_lightning.data.interactions import SPLITS, Interactions
from face_lightning.data.prepared import PreparedData, read_prepared
from face_lightning.errors import ConfigurationError, DataError
from face_lightning.plain_text import as_text

_BAR_WIDTH = 40  # of the longest bar, in characters


def main(argv: Sequence[str] | None = None) -> int:
    """Show a prepared folder.

    Args:
        argv: Arguments after `face data show`; `sys.argv[1:]` if None.

    Returns:
        Exit code 0.

    Raises:
        ConfigurationError: If the arguments are wrong, or matplotlib is needed and not installed.
        DataError: If the folder is missing or damaged, or the plot cannot be written.
    """
    parser = CommandParser(prog="face data show", description="Show the contents of a prepared folder.")
    parser.add_argument("root", help="folder that face data import wrote")
    parser.add_argument("--plot", metavar="FILE.png", help="also plot the degrees to this file (needs matplotlib)")
    options = parser.parse_args(argv)
    with Steps(3) as step:
        step(f"reading {options.root}")
        data = read_prepared(Path(options.root))
        step("counting interactions")
        degrees = {"users": _degrees(data.interactions, 1), "items": _degrees(data.interactions, 0)}
        if options.plot is not None:
            step("plotting")
            _draw(degrees, Path(options.plot), data.interactions.name)
    console = Console()
    _show_counts(console, data)
    _show_steps(console, data.history)
    for kind, counts in degrees.items():
        _show_degrees(console, kind, counts)
    _show_most(console, data.interactions, degrees)
    return 0


def degree_bins(degrees: np.ndarray) -> list[tuple[str, int]]:
    """Histogram of degrees with the bins 0, 1, 2-3, 4-7, ..., up to the largest degree.

    Args:
        degrees: Number of interactions of each entity `(N,)`.

    Returns:
        Label and count of every bin from the first non-empty one.
    """
    edges = [0, 1]
    while edges[-1] <= degrees.max():
        edges.append(2 * edges[-1])
    counts, _ = np.histogram(degrees, edges)
    first = int(np.argmax(counts > 0))
    labels = [f"{low}" if high - low == 1 else f"{low}-{high - 1}" for low, high in pairwise(edges)]
    return list(zip(labels[first:], counts[first:].tolist(), strict=True))


def _degrees(interactions: Interactions, axis: int) -> np.ndarray:
    """Number of interactions of every user (axis 1) or item (axis 0) in all splits."""
    return sum((np.asarray(interactions.matrix(split).sum(axis=axis)) for split in SPLITS), np.zeros(1)).astype(
        np.int64
    )


def _show_counts(console: Console, data: PreparedData) -> None:
    interactions = data.interactions
    table = Table("", "", title=as_text(interactions.name), show_header=False)
    for name, value in interactions.summary().items():
        if name != "name":
            shown = f"{value:,}" if isinstance(value, int) else f"{value:.4%}" if isinstance(value, float) else value
            table.add_row(name.removeprefix("num_"), str(shown))
    table.add_row("domain", data.domain)
    missing = data.history.get("without_text", {})
    table.add_row("without text", ", ".join(f"{int(count):,} {kind}" for kind, count in missing.items()))
    if data.new_item_records:
        table.add_row("new items", f"{data.history.get('num_new_items', len(data.new_item_records)):,}")
    console.print(table)


def _show_steps(console: Console, history: Any) -> None:  # noqa: ANN401 JSON
    table = Table("step", "interactions", "users", "items")
    for step in history.get("steps", []):
        table.add_row(
            as_text(str(step["step"])),
            *(f"{step[f'num_{name}']:,}" for name in ("interactions", "users", "items")),
        )
    console.print(table)
    for line in history.get("notices", []):
        console.print(f"note: {as_text(str(line))}", highlight=False, soft_wrap=True)


def _show_degrees(console: Console, kind: str, degrees: np.ndarray) -> None:
    """Print a histogram of the degrees with one bar per power of two."""
    low, middle, high = int(degrees.min()), float(np.median(degrees)), int(degrees.max())
    console.print(
        f"\ninteractions of {kind}: min {low:,}, median {middle:,g}, mean {degrees.mean():,.1f}, max {high:,}",
        highlight=False,
    )
    bins = degree_bins(degrees)
    width, largest = max(len(label) for label, _ in bins), max(count for _, count in bins)
    for label, count in bins:
        bar = "█" * max(round(_BAR_WIDTH * count / largest), int(count > 0))
        console.print(f"  {label:>{width}}  {bar} {count:,}", highlight=False)


def _show_most(console: Console, interactions: Interactions, degrees: dict[str, np.ndarray]) -> None:
    """Print the original ids of the entities with the most interactions."""
    ids = {"users": interactions.user_ids, "items": interactions.item_ids}
    for kind, counts in degrees.items():
        top = np.argsort(-counts, kind="stable")[:5]
        listed = ", ".join(f"{ids[kind][one]} ({counts[one]:,})" for one in top)
        console.print(f"\n{kind} with the most interactions: {as_text(listed)}", highlight=False)


def _draw(degrees: dict[str, np.ndarray], path: Path, name: str) -> None:
    """Plot degrees by rank on logarithmic axes."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ConfigurationError(
            f"plot: expected matplotlib, got an import error ({error}); install it with pip install matplotlib, "
            "or omit --plot"
        ) from error
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot(xscale="log", yscale="log", xlabel="rank", ylabel="interactions", title=name)
    for kind, counts in degrees.items():
        axes.plot(np.arange(1, len(counts) + 1), np.sort(counts)[::-1], label=kind)
    axes.legend()
    try:
        figure.savefig(path)
    except (OSError, ValueError) as error:
        raise DataError(f"plot: cannot write {path} ({error}); give a path such as degrees.png") from error
