"""`face similar`: find similar items or users by the cosine similarity of embeddings."""

from collections.abc import Sequence

from rich.console import Console

from face_lightning.commands import CommandParser
from face_lightning.commands.recommend import (
    MOST_SHOWN,
    add_ranking_arguments,
    progress_bar,
    ranking_table,
    too_many,
)
from face_lightning.commands.steps import Steps
from face_lightning.recommending.ranking_files import RankingWriter, check_out, read_ids
from face_lightning.recommending.recommender import Recommender


def main(argv: Sequence[str] | None = None) -> int:
    """Print similar items or users, or write them to a file.

    Args:
        argv: Arguments after `face similar`; `sys.argv[1:]` if None.

    Returns:
        Exit code 0.

    Raises:
        ConfigurationError: If there are more ids than can be printed, or the file cannot be written.
        DataError: If ids are unknown.
        CheckpointError: If the run is not finished.
    """
    parser = CommandParser(prog="face similar", description="Find similar items or users.")
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--items", nargs="+", metavar="ID", help="ids of items, or a file with one id per line")
    which.add_argument("--users", nargs="+", metavar="ID", help="ids of users, or a file with one id per line")
    add_ranking_arguments(parser)
    arguments = parser.parse_args(argv)
    kind = "item" if arguments.users is None else "user"
    ids = read_ids(f"{kind}s", arguments.items or arguments.users)
    if arguments.out is None and len(ids) > MOST_SHOWN:
        raise too_many(f"{kind}s", len(ids))
    if arguments.out is not None:
        check_out(arguments.out)
    with Steps(1 if arguments.out else 2) as step:
        step(f"loading {arguments.run}")
        recommender = Recommender.load(arguments.run, arguments.device)
        if arguments.out is None:
            step(f"comparing all {kind}s")
            find = recommender.similar_items if kind == "item" else recommender.similar_users
            top = find(ids, arguments.top_k, unknown=arguments.unknown)
    if arguments.out is None:
        Console().print(ranking_table(recommender, top, kind, kind))
        return 0
    entities = recommender.entities
    known = entities.item_ids if kind == "item" else entities.user_ids
    rows = (recommender.item_rows if kind == "item" else recommender.user_rows)(ids, arguments.unknown)
    with progress_bar() as progress, RankingWriter(arguments.out, f"{kind}_id", f"similar_{kind}_id") as writer:
        task = progress.add_task(f"{kind}s", total=len(rows))
        for tile in recommender.rank_similar("items" if kind == "item" else "users", rows, arguments.top_k):
            writer.write(tile, known, known)
            progress.advance(task, len(tile.queries))
    print(f"{arguments.out}: similar ones of {writer.num_queries:,} {kind}s")
    return 0
