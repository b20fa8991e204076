"""`face data NAME`: fetch a data set that the package may not carry."""

import argparse
from collections.abc import Sequence

from face_lightning.data.fetch import fetch_movielens_100k
from face_lightning.errors import ConfigurationError

DATASETS = ("ml-100k",)


def main(argv: Sequence[str] | None = None) -> int:
    """Fetch the data set that the arguments name and say where it lies.

    Args:
        argv: Arguments after `face data`; those of the process where left out.

    Returns:
        Exit code 0.

    Raises:
        ConfigurationError: If there is no data set of that name.
        DataError: If it cannot be fetched.
    """
    parser = argparse.ArgumentParser(prog="face data", description="Fetch a data set.")
    parser.add_argument("name", help=f"which data set: {', '.join(DATASETS)}")
    parser.add_argument("--root", help="folder to put it into (default: data/NAME)")
    parser.add_argument("--force", action="store_true", help="fetch again, whatever is there")
    parser.add_argument("--archive", help="archive on this machine to take instead of a download")
    parser.add_argument("--quiet", action="store_true", help="print errors only")
    arguments = parser.parse_args(argv)
    if arguments.name not in DATASETS:
        raise ConfigurationError(
            f"name must be one of {', '.join(DATASETS)}, but is {arguments.name!r}; choose one, or read "
            "your own matrices with the reader RLMRecFolder"
        )
    root = arguments.root or f"data/{arguments.name}"
    fetched = fetch_movielens_100k(root, arguments.quiet, arguments.force, arguments.archive)
    if not arguments.quiet:
        tables = fetched.tables
        state = "written" if fetched.fresh else "already there and intact"
        print(f"{fetched.root}: {state}, from {fetched.source}")
        print(f"{len(tables.viewers):,} users, {len(tables.films):,} items, {len(tables.ratings):,} ratings")
        print("terms: research use, no redistribution, cite Harper and Konstan (2015); see LICENSE.txt there")
    return 0
