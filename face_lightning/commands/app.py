"""`face app`: explore a finished run in a browser."""

import warnings
from collections.abc import Sequence
from pathlib import Path

from face_lightning.commands import CommandParser
from face_lightning.commands.addresses import check_address
from face_lightning.commands.steps import Steps
from face_lightning.errors import check_range
from face_lightning.imports import import_optional

_LOOPBACK = ("127.0.0.1", "localhost", "::1")


def main(argv: Sequence[str] | None = None) -> int:
    """Serve the page until the process is stopped.

    Args:
        argv: Arguments after `face app`; `sys.argv[1:]` if None.

    Returns:
        Exit code 0.

    Raises:
        CheckpointError: If the run is not finished.
        ConfigurationError: If an argument is out of range, or the address is in use.
        MissingDependencyError: If NiceGUI is not installed.
    """
    parser = CommandParser(
        prog="face app",
        description="Explore a finished run in a browser: search items and users, see their words, neighbors and "
        "recommendations, steer recommendations by words, look at a map. Needs no network. There is no login: anyone "
        "who can reach the address can see the run.",
    )
    parser.add_argument(
        "--run", type=Path, required=True, help="folder of a finished run, best with words (stage 2 or 3)"
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to bind to (default 127.0.0.1, this machine only)")
    parser.add_argument("--port", type=int, default=8080, help="port (default 8080)")
    parser.add_argument("--device", default="cpu", help="device to rank on (default cpu)")
    arguments = parser.parse_args(argv)
    check_range("port", arguments.port, least=1, most=65535, usual="8080")
    warnings.filterwarnings("ignore", ".*reduce_op. is deprecated")  # NiceGUI inspects all objects of the process
    import_optional("nicegui", extra="app", purpose="face app")
    uvicorn = import_optional("uvicorn", extra="app", purpose="face app")
    from face_lightning.app.explorer import Explorer
    from face_lightning.app.pages import build_server

    check_address(arguments.host, arguments.port)
    with Steps(2) as steps:
        steps("reading the run")
        explorer = Explorer.load(arguments.run, arguments.device)
        steps("reading the meanings of words")
        explorer.warm_up()
    local = arguments.host in _LOOPBACK
    server = build_server(explorer, [*_LOOPBACK, "[::1]"] if local else ["*"])
    print(f"http://{arguments.host}:{arguments.port}: {explorer.title}; Ctrl+C stops", flush=True)
    uvicorn.run(server, host=arguments.host, port=arguments.port, log_level="warning", access_log=False)
    return 0
