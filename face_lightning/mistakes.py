"""Translates exceptions that the user can correct into one line: what was expected, what was given, and the cure."""

import errno
import re

from jsonargparse import ArgumentError

from face_lightning.errors import FaceError
from face_lightning.redaction import redact

_PEER_LOST = ("Connection closed by peer", "Connection reset by peer", "Broken pipe")  # messages of gloo
# Patterns of jsonargparse's messages, and the line that replaces each.
_REPORTS = (
    (
        r"Importing '([^']+)' is not allowed",
        "{where}: expected a class that a configuration may name (Trust in docker/README.md), got {0}, whose code "
        "would run; add --allow-code if you trust this configuration",
    ),
    (r"Option '([^']+)' is not accepted", "{where}: expected a known option, got {0!r}; correct its name"),
    (r"does not accept option '([^']+)'", "{0}: no such option; correct its name, see face fit --help"),
    (r"unrecognized arguments: (.*)", "{0}: no such option; correct its name, see face fit --help"),
    (r"arguments are required: ([\w.]+) - Expected", "{where}.{0}: expected, but not given; add it"),
    (r"arguments are required: (.*)", "{0}: expected, but not given; name a file with --config FILE"),
    (
        r"Expected a dot import path string: (\S+)",
        "{where}: expected the name of a class, got {0!r}; correct it, or give the whole path package.module.Class",
    ),
    (r"Expected a path but (\S+) either not", "{where}: expected a file, but there is no {0}; correct the path"),
    (r"Path is not a file: '?([^']+)", "{where}: expected a file, but {0} is a folder; correct the path"),
    # The content is not quoted, as the file may be a private one that a configuration names by mistake.
    (r"Unexpected config:", "config: expected options by name, got text of another kind; correct the file"),
    (r"Unable to load config ['\"]([^'\"]+)", "{where}: expected a file, but there is no {0}; correct the path"),
    (r"File does not exist: '?([^']+)", "{where}: expected a file, but there is no {0}; correct the path"),
    (
        r"Problems parsing config: .*line (\d+), column (\d+)",
        "config: expected YAML, but it breaks at line {0}, column {1}; correct the file",
    ),
    (r"Problems parsing config:", "config: expected YAML, got text of another kind; correct the file"),
)


def describe_mistake(error: BaseException) -> str | None:
    """Describe an error that the user can correct in one line, without secrets; None for a bug.

    Args:
        error: Exception raised by a command; its causes are considered, too.
    """
    cause: BaseException | None = error
    while cause is not None:  # jsonargparse wraps exceptions of constructors
        line = _describe_cause(cause)
        if line is not None:
            return line
        cause = cause.__cause__ or cause.__context__
    if isinstance(error, ArgumentError):
        return redact(condense_report(str(error)))
    line = _describe_os_error(error) if isinstance(error, OSError) else _describe_library_error(error)
    return None if line is None else redact(line)


def _describe_cause(error: BaseException) -> str | None:
    """Describe an error that is a mistake of the user wherever it occurs in a chain of causes."""
    if isinstance(error, FaceError):
        return str(error)
    if isinstance(error, UnicodeDecodeError):
        return f"config: expected text in UTF-8, but byte {error.start} is invalid; save the file as UTF-8"
    if isinstance(error, RecursionError):
        return "config: expected values that are nested less deeply, got hundreds of levels; correct the file"
    if isinstance(error, ModuleNotFoundError) and not str(error.name).startswith("face_lightning"):
        return f"{error}; install it, or configure something else"
    return None


def _describe_os_error(error: OSError) -> str | None:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return f"disk: {error.strerror}; make room, then resume with --ckpt_path last or repeat the command"
    return None if error.filename is None else f"{error}; correct that, or see the whole error with --debug"


def _describe_library_error(error: BaseException) -> str | None:
    """Describe errors of Lightning, torch and jsonargparse that are mistakes of the user."""
    message = str(error)
    kinds = {kind.__name__ for kind in type(error).__mro__}  # by name, without importing torch and Lightning
    if "OutOfMemoryError" in kinds or "DefaultCPUAllocator: can't allocate memory" in message:
        wanted = re.search(r"[Tt]ried to allocate ([\d.]+ \w+)", message)
        return (
            f"memory: expected the run to fit, but {wanted[1] if wanted else 'more'} could not be allocated on the "
            f"{'GPU' if 'OutOfMemoryError' in kinds else 'CPU'}; lower data.batch_size, data.entities_per_step or the "
            "backbone's embedding_dim, or share the tables with trainer.strategy column_parallel"
        )
    if "MisconfigurationException" in kinds:
        return f"{message}; correct that, or see the whole error with --debug"
    if isinstance(error, RuntimeError) and message.startswith("Early stopping conditioned on metric"):
        return f"early_stopping.monitor: {message}"
    if isinstance(error, RuntimeError) and any(sign in message for sign in _PEER_LOST):
        return (
            "processes: expected all of them to run to the end, but one has died, see the output above or its own; "
            "correct that, then resume with --ckpt_path last"
        )
    if isinstance(error, ValueError) and message.startswith("Does not validate against"):  # jsonargparse
        root_cause = _root_cause(error)
        if isinstance(root_cause, TypeError | ValueError | OSError):  # any other is a bug of the class
            got = " ".join(str(root_cause).split())
            return f"config: expected arguments that the named classes take, got: {got:.200}; correct them"
    if isinstance(error, ValueError) and message.startswith("Invalid "):  # torch's optimizers
        return f"model.init_args.optimizer: {message}; correct the value"
    return None


def _root_cause(error: BaseException) -> BaseException:
    """The first error in the chain of causes."""
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    return error


def condense_report(report: str) -> str:
    """Condense a message of jsonargparse to one line: the argument, what was expected, what was given, the cure."""
    report = " ".join(report.split())
    where = ".".join(key for key in re.findall(r'[Pp]arser key "([^"]+)"', report)) or "arguments"
    if "Problem with given class_path" in report:  # the rest only adds that None would be accepted, too
        report = report.partition(" - Expected a <class 'NoneType'>")[0]
    for pattern, line in _REPORTS:
        found = re.search(pattern, report)
        if found is not None:
            return line.format(*found.groups(), where=where)
    expected = re.findall(r"Expected an? (?:<class '(\w+)'>|typing\.(Literal\[[^]]*\]))", report)
    given = re.search(r"(?:Got|Given) value: (.*)", report)
    if expected and given is not None:
        kinds = " or ".join((kind or choice).replace("NoneType", "null") for kind, choice in expected)
        return f"{where}: expected {kinds}, got {given[1]:.80}; correct the value"
    return f"{report:.400}; see face fit --help"
