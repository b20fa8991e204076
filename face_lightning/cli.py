"""Entry point of the command line: imports the module of a command only, and prints user errors in one line."""

import atexit
import contextlib
import gc
import importlib
import logging
import signal
import sys
import warnings
from collections.abc import Iterator, Sequence

from face_lightning import __version__
from face_lightning.allocator import keep_freed_memory
from face_lightning.errors import ConfigurationError
from face_lightning.mistakes import describe_mistake
from face_lightning.plain_text import printable

STAGE_COMMANDS = ("fit", "validate", "test", "predict")
COMMANDS = {
    "demo": "run the three stages on MovieLens-100K and show the words",
    "describe": "print the words of users and items",
    "baselines": "fit and test popularity, ItemKNN and EASE on the data of a configuration",
    "explain": "explain why an item suits a user, from the words of both",
    "judge": "ask independent judges about the words of a run",
    "tune": "search a stage's hyper-parameters on validation",
    "recommend": "recommend items to known users, or to new ones by their history",
    "similar": "find similar items or users",
    "serve": "serve a run by HTTP",
    "app": "explore a run in a browser: words, neighbors, recommendations steered by words, a map",
    "report": "write an HTML report of a finished run, compared with others",
    "export": "export a run's vectors, ids, words and index to formats of other tools",
    "data": "fetch a data set, import your own, or show one",
    "ablate": "run a set of variants over seeds and compare them user by user",
    "summarize": "write texts of users and items by templates or a language model",
    "vocab": "build the vocabulary of a language model",
}
_MODULES = dict.fromkeys(STAGE_COMMANDS, "stage")  # commands that share a module
_HELP = "\n".join(
    [
        "usage: face COMMAND ... (add --help for a command's options)",
        "",
        "  fit, validate, test, predict  a stage, as --config FILE says; face-fit is face fit; for recommendations",
        "                                use face recommend: predict is Lightning's loop over the data module",
        *(f"  {name:<28}  {text}" for name, text in COMMANDS.items()),
    ]
)


def fit(argv: Sequence[str] | None = None) -> int:
    """`face-fit ...` is `face fit ...`."""
    return main(["fit", *(sys.argv[1:] if argv is None else argv)])


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        argv: Arguments after `face`; `sys.argv[1:]` if None.

    Returns:
        Exit code: 0 on success, 2 for a user error, which is printed in one line, or 130 for Ctrl-C.
    """
    keep_freed_memory()
    atexit.register(gc.freeze)  # or the garbage collection at exit visits all objects of torch, for half a second
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    try:
        return _dispatch(arguments, quiet=not debug)
    except Exception as error:
        line = describe_mistake(error)
        if debug or line is None:
            raise
        print(f"face: error: {printable(' '.join(line.split()))}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("face: interrupted", file=sys.stderr)
        return 128 + signal.SIGINT


def _silence() -> None:
    """Hide informational logs of Lightning, and warnings that the user cannot act on."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in (
        ".*LightningCLI's args parameter is intended",
        ".*treespec, LeafSpec.* is deprecated",
        ".*Attribute '.*' removed from hparams",
        ".*does not have many workers",
        ".*was deprecated in v4.49.0",
        ".*callbacks used to create the checkpoint need to be provided",
        ".*Sparse CSR tensor support is in beta state",
        ".*Checkpoint directory .* exists and is not empty",
        ".*It is recommended to use `self.log.*sync_dist=True",  # the values are the same on all processes already
    ):
        warnings.filterwarnings("ignore", message)


@contextlib.contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Disable garbage collection, which takes a sixth of the time of imports such as torch's and frees nothing."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _dispatch(arguments: list[str], quiet: bool) -> int:
    command = arguments[0] if arguments else "--help"
    if command in (*STAGE_COMMANDS, *COMMANDS):
        options = arguments if command in STAGE_COMMANDS else arguments[1:]
        with _no_garbage_collection():
            module = importlib.import_module(f"face_lightning.commands.{_MODULES.get(command, command)}")
        if quiet:
            _silence()  # after the import, as importing Lightning sets up its logging
        from face_lightning.trust import downloads_of

        with downloads_of(options) as options:
            code: int = module.main(options)
        return code
    if command in ("-h", "--help", "--version"):
        print(__version__ if command == "--version" else _HELP)
        return 0
    raise ConfigurationError(f"command: expected one of {', '.join((*STAGE_COMMANDS, *COMMANDS))}, got {command!r}")


if __name__ == "__main__":
    sys.exit(main())
