"""`face export`: export a finished run to formats that can be read without this package."""

from collections.abc import Sequence
from pathlib import Path

from face_lightning.commands import CommandParser
from face_lightning.commands.steps import Steps
from face_lightning.exports.bundle import NUM_STEPS, write_bundle
from face_lightning.recommending.recommender import Recommender


def main(argv: Sequence[str] | None = None) -> int:
    """Write the export of a run.

    Args:
        argv: Arguments after `face export`; `sys.argv[1:]` if None.

    Returns:
        Exit code 0.

    Raises:
        CheckpointError: If the run is not finished.
        ConfigurationError: If `--out` exists and is not an empty folder.
        MissingDependencyError: If FAISS is not installed.
    """
    parser = CommandParser(
        prog="face export",
        description="Export a run's vectors, ids, words, index, mapper and model card to formats of other tools.",
    )
    parser.add_argument("--run", type=Path, required=True, help="folder of a finished run of any stage")
    parser.add_argument("--out", type=Path, required=True, help="folder to create")
    parser.add_argument(
        "--index",
        choices=["flat", "hnsw", "none"],
        default="flat",
        help="FAISS index over the items: exact (default), approximate and faster beyond 10^5 items, or none",
    )
    arguments = parser.parse_args(argv)
    with Steps(NUM_STEPS) as steps:
        names = write_bundle(
            Recommender.load(arguments.run), arguments.run, arguments.out, arguments.index, progress=steps
        )
    print(f"{arguments.out}: {', '.join(names)}")
    return 0
