"""`face serve`: serve a finished run by HTTP."""

import contextlib
import tempfile
from collections.abc import Sequence
from pathlib import Path

from face_lightning.commands import CommandParser
from face_lightning.commands.addresses import check_address
from face_lightning.errors import check_range
from face_lightning.imports import import_optional
from face_lightning.recommending.recommender import Recommender


def main(argv: Sequence[str] | None = None) -> int:
    """Serve a run until the process is stopped.

    Args:
        argv: Arguments after `face serve`; `sys.argv[1:]` if None.

    Returns:
        Exit code 0.

    Raises:
        CheckpointError: If the run is not finished.
        ConfigurationError: If an argument is out of range, or the address is in use.
        MissingDependencyError: If FastAPI, uvicorn or prometheus-client is not installed.
    """
    parser = _parser()
    arguments = parser.parse_args(argv)
    check_range("port", arguments.port, least=1, most=65535, usual="8000")
    for name in ("workers", "max_bytes", "max_connections"):
        check_range(name, getattr(arguments, name), least=1, usual=str(parser.get_default(name)))
    check_range("timeout", arguments.timeout, above=0, usual="30")
    check_range("watch_seconds", arguments.watch_seconds, least=0, usual="5")
    check_range("recall", arguments.recall, above=0, most=1, usual="0.99")
    for module in ("fastapi", "prometheus_client"):
        import_optional(module, extra="serve", purpose="face serve")
    if arguments.index != "exact":
        import_optional("faiss", extra="cpu", purpose=f"face serve --index {arguments.index}")
    uvicorn = import_optional("uvicorn", extra="serve", purpose="face serve")
    Recommender.load(arguments.run, arguments.device)  # reports errors once, instead of in every worker
    check_address(arguments.host, arguments.port)
    from face_lightning.serving.http_service import Settings
    from face_lightning.serving.worker_sockets import run_workers

    names = ("device", "max_bytes", "timeout", "watch_seconds", "index", "recall")
    settings = {name: getattr(arguments, name) for name in names}
    is_shared = arguments.workers > 1
    with tempfile.TemporaryDirectory(prefix="face-serve-") if is_shared else contextlib.nullcontext("") as shared:
        Settings(str(arguments.run), **settings, shared=shared).to_environment()
        run = run_workers if is_shared else uvicorn.run
        run(
            "face_lightning.serving.http_service:create_app",
            factory=True,
            host=arguments.host,
            port=arguments.port,
            workers=arguments.workers,
            limit_concurrency=arguments.max_connections,
            access_log=False,
            server_header=False,
        )
    return 0


def _parser() -> CommandParser:
    parser = CommandParser(
        prog="face serve",
        description="Serve a run by HTTP: recommendations, similar entities and words; see /docs for the API. If the "
        "environment variable FACE_SERVE_TOKEN is set, requests must send it as bearer token. A new run in the folder, "
        "or a new target of the link, is loaded without dropping requests.",
    )
    parser.add_argument("--run", type=Path, required=True, help="folder of a finished run, or a symbolic link to one")
    parser.add_argument("--host", default="127.0.0.1", help="address to bind to (default 127.0.0.1)")
    parser.add_argument("--port", type=int, default=8000, help="port (default 8000)")
    parser.add_argument(
        "--workers",
        type=int,
        default=1,
        help="worker processes, which share tables by memory-mapped files in the run and in a temporary folder, see "
        "TMPDIR (default 1)",
    )
    parser.add_argument("--device", default="cpu", help="device to rank on (default cpu)")
    parser.add_argument("--max_bytes", type=int, default=2**20, help="maximum size of a request body (default 1 MiB)")
    parser.add_argument(
        "--timeout",
        type=float,
        default=30.0,
        help="seconds to receive a request, and to answer it (default 30)",
    )
    parser.add_argument(
        "--max_connections", type=int, default=512, help="connections per worker; more get status 503 (default 512)"
    )
    parser.add_argument(
        "--watch_seconds", type=float, default=5.0, help="seconds between checks for a new run, 0 for never (default 5)"
    )
    parser.add_argument(
        "--index", choices=["exact", "hnsw", "ivf"], default="exact", help="how all items are ranked (default exact)"
    )
    parser.add_argument("--recall", type=float, default=0.99, help="target recall@20 of the index (default 0.99)")
    return parser
