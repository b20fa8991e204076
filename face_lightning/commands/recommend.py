"""`face recommend`: recommend items to known users, to new users by their history, or steered by words."""

import argparse
import sys
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
from rich.console import Console
from rich.progress import Progress, TaskID
from rich.table import Table

from face_lightning.commands import CommandParser
from face_lightning.errors import ConfigurationError
from face_lightning.plain_text import as_text
from face_lightning.recommending.catalogue import RankedRows
from face_lightning.recommending.ranking_files import RankingWriter, check_out, read_histories, read_ids
from face_lightning.recommending.recommender import Recommender, TopK

MOST_SHOWN = 20  # maximum number of queries whose results are printed
_CHUNK = 4096  # histories that are read at once


def main(argv: Sequence[str] | None = None) -> int:
    """Print recommendations, or write them to a file.

    Args:
        argv: Arguments after `face recommend`; `sys.argv[1:]` if None.

    Returns:
        Exit code 0.

    Raises:
        ConfigurationError: If arguments contradict each other, or there are more users than can be printed.
        DataError: If ids are unknown, or a file has another format.
        CheckpointError: If the run is not finished.
    """
    arguments = _parser().parse_args(argv)
    if arguments.out is not None:
        check_out(arguments.out)
    allow, deny = (
        None if values is None else read_ids(name, values)
        for name, values in (("allow", arguments.allow), ("deny", arguments.deny))
    )
    recommender = Recommender.load(arguments.run, arguments.device, new_items=not arguments.no_new_items)
    if arguments.new_items is not None:
        from face_lightning.data.new_items import read_new_items  # imports scipy, which ranking does not need

        recommender = recommender.with_items(*read_new_items(arguments.new_items))
    if arguments.more or arguments.less:
        _recommend_steered(recommender, arguments, allow, deny)
        return 0
    candidates = recommender.candidates(allow, deny, arguments.unknown)
    recommend = _recommend_users if arguments.history is None else _recommend_histories
    recommend(recommender, arguments, allow, deny, candidates)
    return 0


def _parser() -> CommandParser:
    parser = CommandParser(
        prog="face recommend", description="Recommend items to known users, or to new ones by their history."
    )
    who = parser.add_mutually_exclusive_group()
    who.add_argument("--users", nargs="+", metavar="ID", help="ids, or a file with one id per line (default: all)")
    who.add_argument(
        "--history",
        nargs="+",
        metavar="ID",
        help="items of a new user, or a file of many: JSONL (user_id, item_ids), CSV or Parquet (user_id, item_id)",
    )
    parser.add_argument(
        "--filter_seen",
        "--filter-seen",
        choices=["all", "train", "train+val", "none"],
        default="all",
        help="splits whose items are not recommended again (default all)",
    )
    parser.add_argument("--allow", nargs="+", metavar="ID", help="items to choose from, or a file of them")
    parser.add_argument("--deny", nargs="+", metavar="ID", help="items to leave out, or a file of them")
    parser.add_argument(
        "--new_items",
        "--new-items",
        type=Path,
        metavar="FILE",
        help="JSONL of items without interactions, ranked with the others: item_id, and text or title, tags, profile",
    )
    parser.add_argument(
        "--no_new_items",
        "--no-new-items",
        action="store_true",
        help="leave out the run's items without interactions, as its metrics do",
    )
    parser.add_argument("--more", nargs="+", default=[], metavar="WORD", help="words or phrases to get more of")
    parser.add_argument("--less", nargs="+", default=[], metavar="WORD", help="words or phrases to get less of")
    parser.add_argument(
        "--strength", type=float, default=0.5, help="weight of these words, from 0 to 1 (words only; default 0.5)"
    )
    add_ranking_arguments(parser)
    return parser


def add_ranking_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that recommendations and similar entities share."""
    parser.add_argument("--run", type=Path, required=True, help="folder of a finished run of any stage")
    parser.add_argument("-k", "--top_k", type=int, default=20, help="number of results per query (default 20)")
    parser.add_argument("--unknown", choices=["error", "skip"], default="error", help="what to do with unknown ids")
    parser.add_argument("--device", default="cpu", help="device to rank on (default cpu)")
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="write a .parquet, .csv or .jsonl file instead of printing a table"
    )


def too_many(kind: str, count: int) -> ConfigurationError:
    """Build the error for more queries than can be printed."""
    return ConfigurationError(
        f"{kind}: expected at most {MOST_SHOWN} to show, got {count:,}; name fewer, or write a file with --out"
    )


def progress_bar() -> Progress:
    """A progress bar on the error stream, disabled unless that is a terminal."""
    return Progress(console=Console(stderr=True), disable=not sys.stderr.isatty(), transient=True)


def ranking_table(recommender: Recommender, top: TopK, kind: str, found: str = "item") -> Table:
    """Table of a ranking for display, with the labels and first words of the results.

    Args:
        recommender: Recommender of the run.
        top: The ranking.
        kind: Kind of the queries: "user", "item" or "history".
        found: Kind of the results: "user" or "item".
    """
    has_words = recommender.has_words
    table = Table(kind, found, "name", "score", *(["words"] if has_words else []))
    known = recommender.entities.user_rows if found == "user" else recommender.entities.item_rows
    labels = recommender.entities.user_labels if found == "user" else recommender.entities.item_labels
    for query, ids, scores in zip(*top, strict=True):
        count = int(np.isfinite(scores).sum())
        descriptions = recommender.describe(**{f"{found}s": ids[:count]}) if has_words else []
        for position in range(count):
            name = labels[known[ids[position]]].as_py()
            row = [
                as_text(query) if position == 0 else "",
                as_text(ids[position]),
                as_text(name),
                f"{scores[position]:.3f}",
            ]
            table.add_row(*row, *([as_text(" ".join(descriptions[position].words[:6]))] if has_words else []))
        if not count:
            table.add_row(as_text(query), "", "nothing is left to recommend", "")
        table.add_section()
    return table


def _recommend_users(
    recommender: Recommender,
    arguments: argparse.Namespace,
    allow: list[str] | None,
    deny: list[str] | None,
    candidates: np.ndarray | None,
) -> None:
    """Print or write recommendations for known users."""
    users = None if arguments.users is None else read_ids("users", arguments.users)
    seen = None if arguments.filter_seen == "none" else arguments.filter_seen
    if arguments.out is None:
        if users is None or len(users) > MOST_SHOWN:
            raise too_many("users", len(recommender.entities.user_ids) if users is None else len(users))
        top = recommender.recommend(
            users, arguments.top_k, filter_seen=seen, allow=allow, deny=deny, unknown=arguments.unknown
        )
        Console().print(ranking_table(recommender, top, "user"))
        return
    entities = recommender.entities
    rows = np.arange(len(entities.user_ids)) if users is None else recommender.user_rows(users, arguments.unknown)
    with progress_bar() as progress, RankingWriter(arguments.out, "user_id", "item_id") as writer:
        task = progress.add_task("users", total=len(rows))
        for tile in recommender.rank(rows, arguments.top_k, seen, candidates):
            writer.write(tile, entities.user_ids, entities.item_ids)
            progress.advance(task, len(tile.queries))
    print(f"{arguments.out}: items for {writer.num_queries:,} users")


def _recommend_histories(
    recommender: Recommender,
    arguments: argparse.Namespace,
    allow: list[str] | None,
    deny: list[str] | None,
    candidates: np.ndarray | None,
) -> None:
    """Print or write recommendations for new users."""
    histories, filter_seen = read_histories(arguments.history), arguments.filter_seen != "none"
    if arguments.out is None:
        shown = dict(islice(histories, MOST_SHOWN + 1))
        if len(shown) > MOST_SHOWN:
            raise too_many("history", len(shown) + sum(1 for _ in histories))
        top = recommender.recommend_history(
            shown, arguments.top_k, filter_seen=filter_seen, allow=allow, deny=deny, unknown=arguments.unknown
        )
        Console().print(ranking_table(recommender, top, "history"))
        return
    with progress_bar() as progress, RankingWriter(arguments.out, "user_id", "item_id") as writer:
        task: TaskID = progress.add_task("histories", total=None)
        for chunk in _chunks(histories):
            names, items, counts = recommender.history_rows(chunk, arguments.unknown)
            ids = pa.array(names, pa.string())
            for tile in recommender.rank_histories(items, counts, arguments.top_k, filter_seen, candidates):
                writer.write(tile, ids, recommender.entities.item_ids)
                progress.advance(task, len(tile.queries))
    print(f"{arguments.out}: items for {writer.num_queries:,} histories")


def _recommend_steered(
    recommender: Recommender, arguments: argparse.Namespace, allow: list[str] | None, deny: list[str] | None
) -> None:
    """Print or write recommendations steered by words, for users, histories or the average user."""
    queries: list[tuple[str, str | list[str] | None]] = [("words alone", None)]
    if arguments.history is not None:
        queries = list(islice(read_histories(arguments.history), MOST_SHOWN + 1))
    elif arguments.users is not None:
        queries = [(user, user) for user in read_ids("users", arguments.users)]
    if len(queries) > MOST_SHOWN:
        raise too_many("history" if arguments.users is None else "users", len(queries))
    results = [
        recommender.steer(
            who,
            arguments.more,
            arguments.less,
            arguments.strength,
            arguments.top_k,
            filter_seen=None if arguments.filter_seen == "none" else arguments.filter_seen,
            allow=allow,
            deny=deny,
        )
        for _, who in queries
    ]
    names = [name for name, _ in queries]
    if arguments.out is not None:
        with RankingWriter(arguments.out, "user_id", "item_id") as writer:
            for row, steered in enumerate(results):
                items, number = recommender.item_rows(steered.ids), np.array([row])
                tile = RankedRows(number, items[None], steered.scores[None], np.array([len(items)]))
                writer.write(tile, pa.array(names, pa.string()), recommender.entities.item_ids)
        print(f"{arguments.out}: items for {len(names):,} users")
        return
    for label, used in (("more", results[0].more), ("less", results[0].less)):
        for phrase, words in used.items():
            print(f"{label} {as_text(phrase)}" + ("" if words == [phrase] else f": {', '.join(words)}"))
    for name, steered in zip(names, results, strict=True):
        top = TopK(np.array([name]), steered.ids[None], steered.scores[None])
        Console().print(ranking_table(recommender, top, "user"))


def _chunks(histories: Iterator[tuple[str, list[str]]]) -> Iterator[dict[str, list[str]]]:
    while chunk := dict(islice(histories, _CHUNK)):
        yield chunk
