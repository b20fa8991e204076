"""`face describe`: the words of users and items by their original ids."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from face_lightning.commands import CommandParser
from face_lightning.commands.steps import Steps
from face_lightning.errors import ConfigurationError, DataError
from face_lightning.files import atomic_path
from face_lightning.plain_text import as_text, escape_json
from face_lightning.runs.folder import current_run

if TYPE_CHECKING:
    from face_lightning.recommending.recommender import Side


def main(argv: Sequence[str] | None = None) -> int:
    """Print the words of the given entities, or write those of all entities.

    Args:
        argv: Arguments after `face describe`; `sys.argv[1:]` if None.

    Returns:
        Exit code 0.

    Raises:
        DataError: If the run has no words, or an id is unknown.
        ConfigurationError: If no entity is given, or the folder of the file does not exist.
    """
    parser = CommandParser(prog="face describe", description="Print the words of users and items.")
    parser.add_argument("--run", type=Path, required=True, help="folder of a mapping or alignment run")
    parser.add_argument("--items", nargs="+", default=[], metavar="ID", help="original ids of items")
    parser.add_argument("--users", nargs="+", default=[], metavar="ID", help="original ids of users")
    parser.add_argument("--json", action="store_true", help="print one JSON object per line instead of a table")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the words of all entities as Parquet")
    parser.add_argument("--text", help="text of a new item, to predict its words, similar items, and users")
    arguments = parser.parse_args(argv)
    if arguments.text is not None:
        return _describe_text(arguments.run, arguments.text)
    words = read_words(arguments.run)
    if arguments.out is not None:
        if not arguments.out.absolute().parent.is_dir():
            raise ConfigurationError(
                f"out: expected a file in a folder that exists, got {arguments.out}; make the folder"
            )
        with atomic_path(arguments.out) as temporary:
            pq.write_table(words, temporary)
        print(f"{arguments.out}: words of {len(words):,} entities")
        return 0
    if not arguments.items and not arguments.users:
        raise ConfigurationError("items, users: expected at least one id, got none; or write all with --out FILE")
    rows = [*select(words, "item", arguments.items), *select(words, "user", arguments.users)]
    if arguments.json:
        for row in rows:
            line = json.dumps({key: row[key] for key in ("kind", "id", "label", "words")}, ensure_ascii=False)
            print(escape_json(line))
    else:
        Console().print(word_table(rows))
    return 0


def _describe_text(run_dir: Path, text: str) -> int:
    """Print the predicted words of a new item, similar items, and users."""
    from face_lightning.recommending.recommender import Recommender  # imports torch, which reading words does not need

    with Steps(2) as steps:
        steps("loading the run")
        recommender = Recommender.load(run_dir)
        steps("reading the text")
        prediction = recommender.cold_start(text, k=5)
    table = Table("", "id", "name", "score", title=as_text(" ".join(prediction.words)))
    sides: tuple[tuple[str, Any, Any, Side], ...] = (
        ("similar item", prediction.item_ids, prediction.item_scores, "items"),
        ("user", prediction.user_ids, prediction.user_scores, "users"),
    )
    for kind, ids, scores, side in sides:
        for identifier, score in zip(ids.tolist(), scores.tolist(), strict=True):
            table.add_row(kind, *map(as_text, (identifier, recommender.label_of(side, identifier))), f"{score:.3f}")
        table.add_section()
    Console().print(table)
    return 0


def read_words(run_dir: Path) -> pa.Table:
    """Read the table of words of a finished mapping or alignment run.

    Args:
        run_dir: Folder of the run.

    Raises:
        DataError: If the run has no words, or a file is damaged.
    """
    path = current_run(run_dir) / "descriptors.parquet"
    if not path.is_file():
        raise DataError(
            f"run: {run_dir} has no descriptors.parquet; name the folder of a finished mapping or alignment run"
        )
    try:
        table = pq.read_table(path)
        path = path.with_name("new_items.parquet")
        if path.is_file():
            new = pq.read_table(path, columns=table.column_names).cast(table.schema)
            table = pa.concat_tables([table, new])
        return table
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"run: {path} is damaged ({error}); run that stage again") from error


def select(words: pa.Table, kind: str, ids: Sequence[str]) -> list[dict[str, Any]]:
    """Select the rows of entities, in the order of `ids`.

    Args:
        words: Table from `read_words`.
        kind: "user" or "item".
        ids: Original ids.

    Raises:
        DataError: If an id is unknown.
    """
    selected = words.filter(pc.and_(pc.equal(words["kind"], kind), pc.is_in(words["id"], pa.array(ids, pa.string()))))
    rows = {row["id"]: row for row in selected.to_pylist()}
    missing = [identifier for identifier in ids if identifier not in rows]
    if missing:
        raise DataError(
            f"{kind}s: {', '.join(missing[:5])} not among the {kind}s of this run (original ids are expected, and the "
            f"k-core drops rare {kind}s); look them up in its descriptors.parquet"
        )
    return [rows[identifier] for identifier in ids]


def word_table(rows: Sequence[dict[str, Any]]) -> Table:
    """Table of the rows of `select` for display; an entity without a label is shown by its text."""
    table = Table("", "id", "name or text", "words", show_lines=True)
    for row in rows:
        label = row["text"] or "" if row["label"] == row["id"] else row["label"]
        table.add_row(row["kind"], *map(as_text, (row["id"], label, " ".join(row["words"]))))
    return table
