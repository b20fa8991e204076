"""Pictures of README.md and benchmarks/README.md: python -m benchmarks.pictures [--run RUN_DIR].

- gain.svg: gains of the control, RLMRec-Con and FACE over stage 1, from results/ablations.jsonl
- describe.svg: output of `face describe` for a finished run, by default that of `make demo`
- app.png, map.png, report.png: `face app` and `face report` of that run in the system's Chromium; skipped without one

pipeline.svg is drawn by hand.
"""

import argparse
import io
import statistics
import tempfile
from dataclasses import dataclass
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure
from rich.console import Console
from scipy.stats import t as student

from benchmarks.browser import find_browser, launched, open_page, served
from benchmarks.table_format import newest, value
from face_lightning.commands.describe import read_words, select, word_table
from face_lightning.reports.document import write_report

PICTURES = Path(__file__).parent / "pictures"
PANELS = (("steam-vt", "LightGCN"), ("steam-vt", "GMF"), ("yelp", "LightGCN"), ("yelp", "GMF"), ("ml-100k", "GMF"))
RUNS = {"stage3": ("FACE", "#1f6feb"), "con": ("RLMRec-Con (texts)", "#8250df"), "control": ("control", "#6e7781")}
ITEMS, USERS = ("50", "172"), ("42", "269")
VISITOR, WANTED = "42", "space"
_PORT = 8198


@dataclass(frozen=True)
class Gain:
    """Gain in test Recall@20 over stage 1 in percent: per seed, mean, and half-width of the 95 % interval."""

    seeds: tuple[float, ...]
    mean: float
    half_width: float | None


def gains(dataset: str, backbone: str) -> dict[str, Gain]:
    """Gains over stage 1 of the same seed, with Student's interval over seeds."""
    source = {"benchmark": "ablations", "variant": "common", "dataset": dataset, "backbone": backbone}
    recalls: dict[str, dict[int, float]] = {}
    for record in newest([source], {"set": "comparison"}):
        recalls.setdefault(record["run"], {})[record["seed"]] = value(record, "test/recall@20")
    found = {}
    for run in RUNS:
        pairs = [(recalls[run][seed], recalls["stage1"][seed]) for seed in sorted(recalls[run])]
        seeds = tuple(100 * (recall / before - 1) for recall, before in pairs)
        half = None
        if len(seeds) > 1:
            half = float(student.ppf(0.975, len(seeds) - 1)) * statistics.stdev(seeds) / len(seeds) ** 0.5
        found[run] = Gain(seeds, statistics.mean(seeds), half)
    return found


def summary(panels: dict[tuple[str, str], dict[str, Gain]]) -> str:
    """Values of the picture as text, for its description."""
    return "; ".join(
        f"{dataset} {backbone} {RUNS[run][0]} {gain.mean:+.2f}"
        + (f" ± {gain.half_width:.2f}" if gain.half_width is not None else "")
        for (dataset, backbone), found in panels.items()
        for run, gain in found.items()
    )


def draw_gain(path: Path) -> None:
    """Draw a row per data set, backbone and run: seeds as dots, mean and interval as a bar with whiskers."""
    panels = {panel: gains(*panel) for panel in PANELS}
    with matplotlib.rc_context({"svg.hashsalt": "face", "svg.fonttype": "path", "font.size": 10}):
        figure = Figure(figsize=(7.6, 5.2), layout="constrained")
        axes = figure.add_subplot()
        ticks, names, row = [], [], 0.0
        for (dataset, backbone), found in panels.items():
            seeds = len(found["stage3"].seeds)
            ticks.append(row + 1)
            names.append(f"{dataset}\n{backbone}, {seeds} seed{'s' if seeds > 1 else ''}")
            for run, gain in found.items():
                label, color = RUNS[run]
                axes.plot(gain.seeds, [row] * seeds, "o", markerfacecolor="white", color=color, markersize=5, zorder=3)
                axes.errorbar(
                    gain.mean,
                    row,
                    xerr=gain.half_width,
                    fmt="D",
                    color=color,
                    capsize=3,
                    markersize=7,
                    zorder=4,
                    label=None if row >= len(RUNS) else label,
                )
                row += 1
            row += 0.8
        axes.axvline(0, color="#24292f", linewidth=1)
        axes.set_yticks(ticks, names)
        axes.tick_params(axis="y", length=0)
        axes.invert_yaxis()
        axes.grid(axis="x", color="#d0d7de", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.set_xlabel("gain in test Recall@20 over stage 1, % (seeds, mean, 95 % t-interval over seeds)")
        axes.legend(loc="lower right", frameon=True)
        figure.savefig(path, metadata={"Date": None, "Description": summary(panels)})


def draw_describe(path: Path, run: Path) -> None:
    """Draw the output of the command in a terminal of 100 columns."""
    words = read_words(run)
    console = Console(record=True, width=100, file=io.StringIO(), force_terminal=True)
    command = f"$ face describe --run {run} --items {' '.join(ITEMS)} --users {' '.join(USERS)}"
    console.print(command, style="bold", highlight=False)
    console.print(word_table([*select(words, "item", ITEMS), *select(words, "user", USERS)]))
    # 0.602: character width of DejaVu Sans Mono and Menlo, which browsers use when they cannot fetch fonts.
    picture = console.export_svg(title="face describe", unique_id="describe", font_aspect_ratio=0.602)
    path.write_text(picture, "utf-8")


def draw_pages(run: Path) -> list[Path]:
    """Draw the page with two changed words, its map, and the head of the report."""
    found = [PICTURES / name for name in ("app.png", "map.png", "report.png")]
    with tempfile.TemporaryDirectory() as folder, launched() as browser, served(run, _PORT) as address:
        page = open_page(browser, f"{address}/?user={VISITOR}")
        page.wait_for_selector("[data-testid=recommended]")
        page.locator(".q-chip__icon--remove").first.click()
        page.get_by_label("Add a word").fill(WANTED)
        page.keyboard.press("Enter")
        page.locator("[data-testid=changes] .more").wait_for()
        page.mouse.move(0, 0)
        page.wait_for_timeout(1000)
        page.screenshot(path=found[0])
        page.get_by_role("tab", name="Map").click()
        page.locator("canvas").wait_for(timeout=120_000)
        page.wait_for_timeout(1000)
        page.screenshot(path=found[1])
        report = Path(folder) / "report.html"
        others = [other for name in ("stage1", "control", "baselines/ease") if (other := run.parent / name).is_dir()]
        write_report(run, others, report)
        open_page(browser, report.as_uri()).screenshot(path=found[2])
    return found


def main() -> None:
    """Draw all pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, default=Path("runs/ml-100k/ials/stage3"), help="finished run with words")
    arguments = parser.parse_args()
    draw_gain(PICTURES / "gain.svg")
    draw_describe(PICTURES / "describe.svg", arguments.run)
    if find_browser() is None:
        print("app.png, map.png and report.png left out: no Chromium on the PATH")
    else:
        draw_pages(arguments.run)


if __name__ == "__main__":
    main()
