"""`face data ml-100k | import | show`: download, import or show a data set."""

import importlib
from collections.abc import Sequence

from face_lightning.commands import CommandParser
from face_lightning.errors import ConfigurationError

DATASETS = ("ml-100k",)
_ACTIONS = {"import": "data_import", "show": "data_show"}


def main(argv: Sequence[str] | None = None) -> int:
    """Download, import or show a data set.

    Args:
        argv: Arguments after `face data`.

    Returns:
        Exit code 0.

    Raises:
        ConfigurationError: If the arguments are wrong.
        DataError: If the data are unavailable or damaged.
    """
    arguments = list(argv or [])
    if arguments and arguments[0] in _ACTIONS:
        module = importlib.import_module(f"face_lightning.commands.{_ACTIONS[arguments[0]]}")
        code: int = module.main(arguments[1:])
        return code
    return _fetch(arguments)


def _fetch(argv: Sequence[str]) -> int:
    """Download a data set that the package may not redistribute, and print its folder."""
    from face_lightning.data.fetch import fetch_movielens_100k

    parser = CommandParser(
        prog="face data",
        description="Download a data set by its name. To import your own, see face data import --help; to show one, "
        "see face data show --help.",
    )
    parser.add_argument("name", help=f"name of the data set: {', '.join(DATASETS)}")
    parser.add_argument("--root", help="target folder (default: data/NAME)")
    parser.add_argument("--force", action="store_true", help="download again even if an intact copy is there")
    parser.add_argument("--archive", help="local archive to use instead of a download")
    parser.add_argument("--quiet", action="store_true", help="print errors only")
    arguments = parser.parse_args(argv)
    if arguments.name not in DATASETS:
        raise ConfigurationError(
            f"name: expected one of {', '.join(DATASETS)}, got {arguments.name!r}; choose one, or import your own "
            "with: face data import FILE --out FOLDER"
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
