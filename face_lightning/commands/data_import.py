"""`face data import FILE --out FOLDER`: filter, split and store interactions in a prepared folder."""

import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from face_lightning.commands import CommandParser
from face_lightning.data.prepared import PreparedData, check_target, write_prepared
from face_lightning.data.preparing import KINDS
from face_lightning.data.profiles import DOMAINS
from face_lightning.data.readers.interaction_file import InteractionFile
from face_lightning.data.readers.rlmrec_folder import RLMRecFolder
from face_lightning.errors import ConfigurationError


def main(argv: Sequence[str] | None = None) -> int:
    """Import interactions.

    Args:
        argv: Arguments after `face data import`; `sys.argv[1:]` if None.

    Returns:
        Exit code 0.

    Raises:
        ConfigurationError: If the arguments are wrong.
        DataError: If a file is missing or damaged, no rows remain after a step, or the folder cannot be written.
    """
    options = _parser().parse_args(argv)
    out = Path(options.out)
    check_target(out, options.force)
    data = _prepare(options)
    write_prepared(data, out, options.force)
    if not options.quiet:
        _report(data, out)
    return 0


def _prepare(options: Namespace) -> PreparedData:
    """Read, filter and split the data, with a progress bar in a terminal."""
    if Path(options.source).is_dir() and any(Path(options.source).glob("*.pkl")):
        return _prepare_folder(options)
    given = {
        name: value
        for name, value in vars(options).items()
        if name not in ("out", "force", "quiet") and "no_header" not in name
    }
    for name in ("item_fields", "user_fields"):
        given[name] = _fields(name, given[name])
    reader = InteractionFile(**given, header=not options.no_header, metadata_header=not options.metadata_no_header)
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=options.quiet or not sys.stderr.isatty()) as bar:
        task = bar.add_task("reading", total=1.0)
        return reader.prepare(lambda share: bar.update(task, completed=share))


def _prepare_folder(options: Namespace) -> PreparedData:
    """Import a folder in the layout of RLMRec, with its split."""
    parser = _parser()
    kept = ("source", "out", "domain", "name", "item_metadata", "force", "quiet")
    for name, value in vars(options).items():
        if name not in kept and value != parser.get_default(name) and (name, value) != ("split", "given"):
            raise ConfigurationError(
                f"{name}: expected a file of interactions, got the folder {options.source}, whose split is kept; omit "
                f"--{name}"
            )
    return RLMRecFolder(options.source, options.domain, options.item_metadata, options.name).prepare()


def _fields(argument: str, pairs: Sequence[str] | None) -> dict[str, str] | None:
    """Parse `NAME=FIELD ...`."""
    split = [pair.partition("=") for pair in pairs or ()]
    for name, mark, source in split:
        if not (name and mark and source):
            raise ConfigurationError(
                f"{argument}: expected NAME=FIELD, such as title=movie_title, got {name + mark + source!r}; correct it"
            )
    return {name: source for name, _, source in split} or None


def _report(data: PreparedData, out: Path) -> None:
    """Print the counts after every step, and a summary of the result."""
    for step in data.history["steps"]:
        counts = f"{step['num_interactions']:>12,} interactions {step['num_users']:>10,} users"
        print(f"{counts} {step['num_items']:>10,} items  {step['step']}")
    interactions = data.interactions
    print(
        f"{out}: {interactions.train.nnz:,} train, {interactions.valid.nnz:,} valid, {interactions.test.nnz:,} test, "
        f"density {interactions.density:.4%}, fingerprint {interactions.fingerprint[:12]}"
    )
    missing = data.history["without_text"]
    print(f"without text: {missing['users']:,} users, {missing['items']:,} items")
    if data.new_item_records:
        print(f"without interactions: {data.history['num_new_items']:,} further items, recommended by their texts")
    for line in data.history["notices"]:
        print(f"note: {line}", file=sys.stderr)


def _parser() -> CommandParser:
    parser = CommandParser(
        prog="face data import", description="Filter and split interactions, and store them in a prepared folder."
    )
    parser.add_argument(
        "source",
        help="CSV, TSV, Parquet or RecBole .inter file (text also .gz, .bz2, .zst), a folder of such "
        "part files, or a folder in RLMRec's layout",
    )
    parser.add_argument("--out", required=True, help="folder to create")
    parser.add_argument("--user", default="user_id", help="column of user ids (default: user_id)")
    parser.add_argument("--item", default="item_id", help="column of item ids (default: item_id)")
    parser.add_argument("--rating", help="column of ratings, for --min_rating")
    parser.add_argument("--min_rating", type=float, help="minimum rating of an interaction")
    parser.add_argument("--time", help="column of times: numbers, or dates such as 2024-01-31 12:00:00")
    parser.add_argument("--core", type=int, default=1, help="minimum interactions per user and item (default: 1)")
    parser.add_argument("--split", choices=KINDS, default="random", help="how to split (default: random, per user)")
    parser.add_argument("--ratios", type=float, nargs=3, default=(3.0, 1.0, 1.0), help="train valid test (3 1 1)")
    parser.add_argument("--last_n", type=int, default=1, help="split last: pairs of a user in valid and in test")
    parser.add_argument("--seed", type=int, default=0, help="seed of random splits (default: 0)")
    parser.add_argument("--valid", help="split given: file of validation")
    parser.add_argument("--test", help="split given: file of test")
    parser.add_argument(
        "--separator", help="column separator, such as ';' or '::' (default: comma in .csv, tab in .tsv)"
    )
    parser.add_argument("--encoding", default="utf-8", help="encoding of text files (default: utf-8)")
    parser.add_argument("--no_header", action="store_true", help="the first line has data; columns are named 1, 2, ...")
    parser.add_argument("--drop_missing", action="store_true", help="drop rows without an id")
    parser.add_argument("--item_metadata", help="JSONL, CSV, TSV, Parquet or RecBole .item with metadata of items")
    parser.add_argument("--user_metadata", help="the same with metadata of users")
    parser.add_argument("--item_key", help="field of ids in --item_metadata (default: that of --item)")
    parser.add_argument("--user_key", help="field of ids in --user_metadata (default: that of --user)")
    fields = "fields of --item_metadata for the names that templates use, such as title=movie_title tags=class"
    parser.add_argument("--item_fields", nargs="+", metavar="NAME=FIELD", help=fields)
    parser.add_argument(
        "--user_fields", nargs="+", metavar="NAME=FIELD", help="fields of --user_metadata, such as occupation=job"
    )
    parser.add_argument(
        "--metadata_separator", help="column separator of metadata (default: that of the file's suffix)"
    )
    parser.add_argument("--metadata_no_header", action="store_true", help="--no_header for the metadata files")
    parser.add_argument(
        "--keep_new_items",
        "--keep-new-items",
        action="store_true",
        help="keep items of --item_metadata without interactions: runs with words recommend them by their texts; "
        "metrics do not include them",
    )
    parser.add_argument("--domain", choices=DOMAINS, default="item", help="kind of items (default: item)")
    parser.add_argument("--name", help="name of the data set (default: that of the file)")
    parser.add_argument("--force", action="store_true", help="replace a prepared folder")
    parser.add_argument("--quiet", action="store_true", help="print errors only")
    return parser
