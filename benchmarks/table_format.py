"""Markdown tables from measurements: definition of tables, columns and cells, and filling a page with them."""

import json
import math
import re
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.records import read

BLOCK = re.compile(r"(<!-- table: ([\w-]+) -->\n).*?(<!-- end -->)", flags=re.DOTALL)

Record = dict[str, Any]
Where = Mapping[str, object]  # value of a field, or a tuple of allowed values

RECALL, NDCG = "test/recall@20", "test/ndcg@20"
MOVIELENS = ("ml-100k", "ml-100k-split")
COMMON: Where = {"benchmark": "ablations", "variant": "common"}

# Measurements with equal values of these fields are repetitions of one case.
CASE = (
    *("benchmark", "part", "dataset", "backbone", "model", "embedding_dim", "run", "stage", "variant", "seed"),
    *("batch_size", "num_queries", "num_codes", "dim", "split", "metrics.interactions", "case", "loss"),
    *("device", "card"),
)


@dataclass(frozen=True)
class Column:
    """Title of a column, function from the records of a row to the text of a cell, and a filter on the records."""

    title: str
    cell: Callable[[Sequence[Record], Sequence[Sequence[Record]]], str]
    where: Where = field(default_factory=dict)


@dataclass(frozen=True)
class Table:
    """Definition of a table.

    Attributes:
        sources: Filters of records, each with at least its `benchmark`; records of any of them are used.
        columns: Columns after the leading ones.
        rows: Labelled rows, in this order.
        by: Fields; records outside of the labelled rows get a row per combination of their values.
        labels: Titles of the leading columns.
        prefer: If a case was measured in several sets of runs, records of this set count.
        command: Command to reproduce it; by default the recorded commands.
        intro: Text above the table.
        needs: Benchmark without whose records the table is omitted.
        load: Function that returns the records, in the order of rows, instead of `sources`.
    """

    columns: Sequence[Column]
    sources: Sequence[Where] = ()
    rows: Mapping[str, Where] = field(default_factory=dict)
    by: Sequence[str] = ()
    labels: Sequence[str] = ("",)
    prefer: Where = field(default_factory=dict)
    command: str = ""
    intro: str = ""
    needs: str = ""
    load: Callable[[], list[Record]] | None = None


def value(record: Record, path: str) -> Any:  # noqa: ANN401
    """Value at a path such as `stages.stage3.epochs`, or the metric of that name; None if there is none.

    Of several paths separated by `|`, the first that has a value counts.
    """
    for alternative in path.split("|"):
        found: Any = record
        for key in alternative.split("."):
            found = found.get(key) if isinstance(found, dict) else None
        found = record.get("metrics", {}).get(alternative) if found is None else found
        if found is not None:
            return found
    return None


def matches(record: Record, where: Where) -> bool:
    """Whether a record has the values in `where`."""
    return all(
        value(record, path) in wanted if isinstance(wanted, tuple) else value(record, path) == wanted
        for path, wanted in where.items()
    )


def newest(sources: Sequence[Where], prefer: Where) -> list[Record]:
    """Newest record of each case that matches a source, oldest case first."""
    found: list[Record] = []
    for source in sources:
        found += [record for record in read(str(source["benchmark"])) if matches(record, source)]
    cases: dict[str, Record] = {}
    for record in sorted(found, key=lambda record: matches(record, prefer)):
        cases[json.dumps([value(record, path) for path in CASE])] = record
    return list(cases.values())


def mean(path: str, spec: str = ".4f", scale: float = 1.0) -> Callable[[Sequence[Record], object], str]:
    """Cell with the mean over records, and the standard deviation if there are several."""

    def cell(records: Sequence[Record], _: object) -> str:
        found = [value(record, path) for record in records]
        values = [scale * number for number in found if number is not None and not math.isnan(number)]
        if not values:
            return ""
        spread = f" ± {statistics.stdev(values):{spec}}" if len(values) > 1 else ""
        return f"{statistics.mean(values):{spec}}{spread}"

    return cell


def percent(path: str) -> Callable[[Sequence[Record], object], str]:
    """Cell with the mean of shares in percent, with one decimal."""
    return mean(path, ".1f", 100.0)


def count(records: Sequence[Record], _: object) -> str:
    """Number of seeds."""
    return str(len({record.get("seed") for record in records})) if records else ""


def against(path: str, reference: Where) -> Callable[[Sequence[Record], Sequence[Sequence[Record]]], str]:
    """Cell with the difference, in percent, of the mean of the row that matches `reference` to this row's mean."""

    def cell(records: Sequence[Record], rows: Sequence[Sequence[Record]]) -> str:
        best = next((row for row in rows if matches(row[0], reference)), [])
        if not best or not records or records[0] in best:
            return ""
        means = [statistics.mean(value(record, path) for record in group) for group in (best, records)]
        return f"{100 * (means[0] / means[1] - 1):+.1f} %"

    return cell


def machine(recorded: str) -> str:
    """Short form of a recorded machine: cores, maker, and AMX if it has it."""
    cores, processor, gpus = (part.strip() for part in recorded.split(",", 2))
    name = re.sub(r"\(R\)|\bProcessor\b", "", processor.split(" avx")[0])
    amx = " with AMX" if "amx" in processor else ""
    return f"{cores} of {'an' if name[0] in 'AIa' else 'a'} {' '.join(name.split())}{amx}, {gpus}"


def origin(table: Table, records: Sequence[Record], results: str) -> str:
    """Command, seeds, machine and file of the records."""
    commands = [table.command] if table.command else list(dict.fromkeys(record["command"] for record in records))
    seeds = sorted({record["seed"] for record in records if record.get("seed") is not None})
    parts = [f"Command: {'; '.join(f'`{command}`' for command in commands)}"]
    if seeds:
        parts.append(f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}")
    parts.append("; ".join(sorted({machine(record["machine"]) for record in records})))
    files = dict.fromkeys(record["benchmark"] for record in records)
    parts.append(f"records: {', '.join(f'[{name}.jsonl]({results}/{name}.jsonl)' for name in files)}")
    return ". ".join(part[0].upper() + part[1:] for part in parts) + "."


def group(table: Table, records: Sequence[Record]) -> dict[tuple[str, ...], list[Record]]:
    """Non-empty rows by their labels."""
    padding = [""] * (len(table.labels) - 1)
    rows = {(label, *padding): select(records, where) for label, where in table.rows.items()}
    labelled = {id(record) for row in rows.values() for record in row}
    further: dict[tuple[Any, ...], list[Record]] = {}
    for record in records:
        if table.by and id(record) not in labelled:
            further.setdefault(tuple(value(record, path) for path in table.by), []).append(record)
    order = list(further) if table.load else sorted(further, key=lambda label: [(str(type(v)), v) for v in label])
    rows |= {tuple(f"{v:,}" if isinstance(v, int) else str(v or "") for v in label): further[label] for label in order}
    return {label: row for label, row in rows.items() if row}


def render(table: Table, results: str = "results") -> str:
    """A table in Markdown with its origin; empty if there are no records.

    Args:
        table: Definition of the table.
        results: Path of the records relative to the page.
    """
    if table.needs and not read(table.needs):
        return ""
    rows = group(table, table.load() if table.load else newest(table.sources, table.prefer))
    if not rows:
        return ""
    lines = [[*table.labels, *(column.title for column in table.columns)]]
    for label, row in rows.items():
        cells = []
        for column in table.columns:
            others = [chosen for other in rows.values() if (chosen := select(other, column.where))]
            cells.append(column.cell(select(row, column.where), others))
        lines.append([*label, *cells])
    lines.insert(1, ["---"] * len(lines[0]))
    shown = [record for row in rows.values() for record in row]
    text = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    return f"{table.intro}{text}\n\n{origin(table, shown, results)}\n"


def select(records: Sequence[Record], where: Where) -> list[Record]:
    """The records that match."""
    return [record for record in records if matches(record, where)]


def fill(page: Path, tables: Mapping[str, Table]) -> str:
    """Text of a page with its tables updated.

    Raises:
        KeyError: If the page contains an undeclared table.
    """
    results = "results" if page.parent.name == "benchmarks" else "benchmarks/results"
    return BLOCK.sub(lambda block: block[1] + render(tables[block[2]], results) + block[3], page.read_text("utf-8"))
