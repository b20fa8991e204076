"""The report of a run: its contents, the HTML file, and its numbers as CSV."""

import csv
import io
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from face_lightning.errors import ConfigurationError, FaceError
from face_lightning.files import write_atomically
from face_lightning.plain_text import printable
from face_lightning.recommending.recommender import Recommender
from face_lightning.reports.charts import Charts
from face_lightning.reports.gains import (
    by_activity,
    by_popularity,
    check_comparable,
    estimate,
    paired_tests,
)
from face_lightning.reports.judgements import read_judgements
from face_lightning.reports.run_record import RunRecord, ancestors, read_runs
from face_lightning.reports.word_samples import count_words, draw_samples, shared_sets
from face_lightning.runs.folder import current_run
from face_lightning.runs.kept_codebook import CODEBOOK
from face_lightning.text.vocabulary import load_codebook

KINDS = ("item", "user")
NUM_STEPS = 5
_NUM_MOST_USED = 40
_FORMULA_PREFIXES = ("=", "+", "-", "@", "\t", "\r")  # of cells that spreadsheets evaluate


@dataclass
class Report:
    """Contents of a report.

    Attributes:
        facts: Values that the HTML template shows, by name.
        tables: Rows of the CSV files by name, the header first.
    """

    facts: dict[str, Any]
    tables: dict[str, list[Sequence[Any]]] = field(default_factory=dict)


def write_report(
    run_dir: Path, compared: Sequence[Path], out: Path, progress: Callable[[str], None] | None = None
) -> list[Path]:
    """Write the report of a run as an HTML file, and its numbers as CSV to the folder `{stem}_csv` next to it.

    Args:
        run_dir: Folder of a finished run.
        compared: Folders of finished runs on the same data to compare with; if empty, the runs that this one was
            started from.
        out: HTML file to write.
        progress: Called with a description of each step before it starts, `NUM_STEPS` times.

    Returns:
        Paths of all files written.

    Raises:
        CheckpointError: If a run is not finished.
        ConfigurationError: If the runs cannot be compared, or the folder of `out` does not exist.
        DataError: If a file is damaged.
        MissingDependencyError: If matplotlib is not installed.
    """
    if out.suffix.lower() not in (".html", ".htm") or not out.absolute().parent.is_dir():
        raise ConfigurationError(
            f"out: expected a file such as report.html in a folder that exists, got {out}; make the folder"
        )
    begin = progress or (lambda _: None)
    report = build_report(run_dir, compared, begin)
    begin("writing")
    pages = Environment(
        loader=PackageLoader("face_lightning.reports", "."),
        undefined=StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_cell,
    )
    pages.filters |= {"number": number, "lines": _lines}
    page = pages.get_template("report.html.j2").render(report.facts)
    folder = out.with_name(f"{out.stem}_csv")
    folder.mkdir(exist_ok=True)
    for name, rows in report.tables.items():
        file = io.StringIO()
        csv.writer(file, lineterminator="\n").writerows([_safe(value) for value in row] for row in rows)
        write_atomically(folder / f"{name}.csv", file.getvalue())
    write_atomically(out, page)
    return [out, *(folder / f"{name}.csv" for name in report.tables)]


def build_report(run_dir: Path, compared: Sequence[Path], begin: Callable[[str], None]) -> Report:
    """Collect the contents of the report of a run; see `write_report` for arguments and errors."""
    begin("reading runs")
    (alone,) = read_runs([run_dir])
    earlier_stages = ancestors(alone)
    folders = list(dict.fromkeys([run_dir, *(compared or earlier_stages)]))
    run, *others = read_runs(folders)
    check_comparable(run, others)
    stages = [*(read_runs([folder, run_dir])[0] for folder in earlier_stages), run]
    charts = Charts()
    report = Report({"run": run, "others": others, "stages": stages})
    _add_configuration(report, run, others)
    begin("testing differences")
    _add_metrics(report, run, others, charts)
    _add_curves(report, stages, charts)
    begin("sampling words")
    _add_words(report, run, stages, charts)
    begin("ranking items")
    _add_groups(report, run, others, charts)
    report.facts["costs"] = [
        [stage.name, stage.result["epochs"], stage.result["seconds"], stage.result["peak_mib"]] for stage in stages
    ]
    report.tables["costs"] = [["run", "epochs", "seconds", "peak_mib"], *report.facts["costs"]]
    return report


def number(value: float | None, digits: int = 4) -> str:
    """Format a number for display; an en dash if it is None or not finite."""
    if value is None or not math.isfinite(value):
        return "\N{EN DASH}"
    if float(value).is_integer() and abs(value) >= 1:
        return f"{value:,.0f}"
    return f"{value:,.{1 if abs(value) >= 100 else digits}f}"


def _largest(run: RunRecord) -> str:
    """Name of the recall at the largest k, the metric of tests and groups."""
    return [metric for metric in run.test_metrics if metric.startswith("test/recall")][-1]


def _add_configuration(report: Report, run: RunRecord, others: Sequence[RunRecord]) -> None:
    flat = dict(_flatten(run.config))
    differences = []
    for other in others:
        other_flat = dict(_flatten(other.config))
        if other_flat:
            keys = [key for key in sorted({*flat, *other_flat}) if flat.get(key) != other_flat.get(key)]
            differences += [[other.name, key, flat.get(key), other_flat.get(key)] for key in keys]
    report.facts |= {
        "config": yaml.safe_dump(run.config, sort_keys=False, allow_unicode=True),
        "data": run.environment.get("data", {}),
        "environment": run.environment,
        "differences": differences,
    }
    report.tables["configuration"] = [["option", "value"], *([key, value] for key, value in flat.items())]
    report.tables["differences"] = [["compared with", "option", "this run", "the other"], *differences]


def _flatten(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:  # noqa: ANN401
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from _flatten(item, f"{path}.{key}" if path else str(key))
    elif path:
        yield path, value


def _add_metrics(report: Report, run: RunRecord, others: Sequence[RunRecord], charts: Charts) -> None:
    metrics, runs = run.test_metrics, [run, *others]
    estimates = {one.name: {metric: estimate(one.user_metrics[metric]) for metric in metrics} for one in runs}
    report.facts["metrics"] = {
        one.name: [(one.metrics[metric], estimates[one.name][metric].half_width) for metric in metrics] for one in runs
    }
    report.facts |= {"metric_names": metrics, "tests": [], "metric_chart": ""}
    report.tables["metrics"] = [
        ["run", "metric", "value", "half width of the 95 % interval"],
        *([one.name, key, one.metrics[key], estimates[one.name][key].half_width] for one in runs for key in metrics),
    ]
    if not metrics:
        return
    largest = _largest(run)
    shown = [largest, largest.replace("recall", "ndcg")]
    report.facts["tests"] = paired_tests(run, others, [metric for metric in shown if metric in metrics])
    report.tables["tests"] = [
        ["compared with", "metric", "difference", "half width of the 95 % interval", "t", "p", "p (Holm)"],
        *([one.other, one.metric, *one.difference, *one[3:]] for one in report.facts["tests"]),
    ]
    largest_estimates = {name: by_metric[largest] for name, by_metric in estimates.items()}
    report.facts["metric_chart"] = charts.intervals(largest_estimates, largest)


def _add_curves(report: Report, stages: Sequence[RunRecord], charts: Charts) -> None:
    """Add curves over epochs for each stage: loss, validation metrics and statistics of the words."""
    panels: tuple[tuple[str, tuple[str, ...]], ...] = (
        ("loss", ("train/loss",)),
        ("validation", ()),
        ("perplexity of words", ("codebook/perplexity", "codebook/items_perplexity")),
        ("share of new words", ("codebook/churn",)),
    )
    curves, rows = [], []
    for stage in stages:
        names = [key for line in stage.history for key in line if key not in ("epoch", "step", "seconds")]
        for key in dict.fromkeys(names):
            rows += [[stage.name, line["epoch"], key, line[key]] for line in stage.history if line.get(key) is not None]
        stage_charts = []
        for title, keys in panels:
            panel_keys = _last_validation(names) if title == "validation" else keys
            lines = {key.partition("/")[2]: _points(stage, key) for key in panel_keys if _points(stage, key)[0]}
            if lines:
                stage_charts.append(charts.curves(lines, title))
        curves.append((stage.name, stage.result["stage"], stage_charts))
    report.facts["curves"] = curves
    report.tables["curves"] = [["run", "epoch", "metric", "value"], *rows]


def _points(stage: RunRecord, key: str) -> tuple[list[float], list[float]]:
    """Epochs for which a metric has a value, and the values."""
    lines = [line for line in stage.history if line.get(key) is not None]
    return [line["epoch"] for line in lines], [line[key] for line in lines]


def _last_validation(names: Sequence[str]) -> list[str]:
    """Validation metrics at the largest k."""
    found = sorted({key for key in names if key.startswith("val/")}, key=lambda key: int(key.rpartition("@")[2]))
    largest = found[-1].rpartition("@")[2] if found else ""
    return [key for key in found if key.endswith(f"@{largest}")]


def _add_words(report: Report, run: RunRecord, stages: Sequence[RunRecord], charts: Charts) -> None:
    """Add metrics of the words, results of judges, the most frequent words, and samples."""
    folder = current_run(run.folder)
    report.facts |= {"health": [], "health_names": [], "most_used": {}, "shared": {}, "samples": {}, "word_chart": ""}
    with_words = [stage for stage in stages if "codebook/perplexity" in stage.metrics]
    keys = dict.fromkeys(key for stage in with_words for key in stage.metrics)
    names = [key for key in keys if key.startswith(("codebook/", "words/"))]
    report.facts["health_names"] = [stage.name for stage in with_words]
    report.facts["health"] = [[key, *(stage.metrics.get(key) for stage in with_words)] for key in names]
    report.tables["words"] = [["metric", *(stage.name for stage in with_words)], *report.facts["health"]]
    columns, judgements = read_judgements(folder)
    report.facts |= {"judged_columns": columns, "judgements": judgements}
    if judgements:
        report.tables["judgements"] = [columns, *judgements]
    if not (folder / "descriptors.parquet").is_file():
        return
    descriptors = pq.read_table(folder / "descriptors.parquet")
    codebook = load_codebook(folder / CODEBOOK)[0] if (folder / CODEBOOK).is_file() else None
    counts = {kind: count_words(descriptors, kind) for kind in KINDS}
    report.facts["most_used"] = {kind: found[:_NUM_MOST_USED] for kind, found in counts.items()}
    report.facts["shared"] = {kind: shared_sets(descriptors, kind) for kind in KINDS}
    report.facts["samples"] = {kind: draw_samples(descriptors, kind, codebook) for kind in KINDS}
    report.facts["word_chart"] = charts.word_use(
        {f"{kind}s": [found.share for found in counts[kind]] for kind in KINDS if counts[kind]}
    )
    report.tables["word_use"] = [
        ["kind", "word", "count", "share"],
        *([kind, *found] for kind in KINDS for found in counts[kind]),
    ]
    report.tables["samples"] = [
        ["sample", "kind", "id", "label", "text", "words", "margin"],
        *(
            [name, *one[:4], " ".join(one.words), one.margin]
            for found in report.facts["samples"].values()
            for name, samples in found.items()
            for one in samples
        ),
    ]


def _add_groups(report: Report, run: RunRecord, others: Sequence[RunRecord], charts: Charts) -> None:
    """Add gains of groups of users and items, for runs that have the files to rank with."""
    report.facts["groups"] = {}
    if not run.test_metrics:
        return
    metric, top_k = _largest(run), int(_largest(run).rpartition("@")[2])
    recommenders = {}
    for one in (run, *others):
        try:
            recommenders[one.name] = Recommender.load(one.folder, new_items=False)
        except FaceError:
            continue  # such as a baseline, which has no embeddings
    groups: dict[str, tuple[list[Any], str]] = {}
    own = recommenders.get(run.name)
    if own is not None:
        fingerprint = own.entities.fingerprint
        recommenders = {name: one for name, one in recommenders.items() if one.entities.fingerprint == fingerprint}
        for name, found, ylabel in (
            ("training interactions of the user", by_activity(run, others, own, metric), f"gain in recall@{top_k}"),
            (
                "training interactions of the item",
                by_popularity(run, others, recommenders, top_k),
                f"gain in hits among {top_k}",
            ),
        ):
            drawn = charts.gains(found, name, ylabel) if found and found[0].gains else ""
            groups[name] = found, drawn
    report.facts["groups"] = groups
    report.tables["groups"] = [
        ["by", "range", "size", "value", "compared with", "gain", "half width of the 95 % interval"],
        *(
            [name, group.label, group.size, group.value, other, *gain]
            for name, (found, _) in groups.items()
            for group in found
            for other, gain in (group.gains or {"": ("", "")}).items()
        ),
    ]


def _cell(value: Any) -> Any:  # noqa: ANN401
    """Remove control and bidirectional characters from a text of the data; other values are unchanged."""
    return printable(value) if type(value) is str else value


def _lines(text: str) -> Markup:
    """Remove control and bidirectional characters from a text of several lines."""
    return Markup("\n").join(printable(line) for line in text.splitlines())


def _safe(value: Any) -> Any:  # noqa: ANN401
    """Format a value for CSV, escaping texts that spreadsheets would evaluate as formulas."""
    if isinstance(value, str):
        text = printable(value)
        return f"'{text}" if text.startswith(_FORMULA_PREFIXES) else text
    return "" if value is None or (isinstance(value, float) and not math.isfinite(value)) else value
