"""`face report`: write an HTML report of a finished run, and its numbers as CSV."""

from collections.abc import Sequence
from pathlib import Path

from face_lightning.commands import CommandParser
from face_lightning.commands.steps import Steps
from face_lightning.reports.document import NUM_STEPS, write_report


def main(argv: Sequence[str] | None = None) -> int:
    """Write the report of a run.

    Args:
        argv: Arguments after `face report`; `sys.argv[1:]` if None.

    Returns:
        Exit code 0.

    Raises:
        CheckpointError: If a run is not finished.
        ConfigurationError: If runs cannot be compared, or the folder of `--out` does not exist.
        MissingDependencyError: If matplotlib is not installed.
    """
    parser = CommandParser(
        prog="face report",
        description="Write a self-contained HTML report of a finished run: test metrics with intervals and paired "
        "tests, gains by groups of users and items, metrics and samples of the words, curves, cost, configuration.",
    )
    parser.add_argument("--run", type=Path, required=True, help="folder of a finished run of any stage")
    parser.add_argument(
        "--compare",
        type=Path,
        nargs="+",
        action="extend",
        default=[],
        metavar="DIR",
        help="finished runs on the same data to compare with (default: the stages that the run was started from)",
    )
    parser.add_argument("--out", type=Path, default=Path("report.html"), help="file to write (default report.html)")
    arguments = parser.parse_args(argv)
    with Steps(NUM_STEPS) as steps:
        files = write_report(arguments.run, arguments.compare, arguments.out, steps)
    print(f"{files[0]}: report; {len(files) - 1} tables as CSV in {files[-1].parent}")
    return 0
