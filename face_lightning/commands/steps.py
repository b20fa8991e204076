"""Progress of commands on a terminal."""

import sys
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from face_lightning.plain_text import as_text


class Steps:
    """Progress bar over the steps of a command, with the description of the current step and the remaining time.

    It is disabled if the error stream is not a terminal, so that logs stay short.

    Args:
        total: Number of steps.
        console: Console to write to; the error stream if None.
    """

    def __init__(self, total: int, console: Console | None = None) -> None:
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console or Console(stderr=True),
            disable=console is None and not sys.stderr.isatty(),
            transient=True,
        )
        self._task = self._bar.add_task("starting", total=total)
        self._is_started = False

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def __call__(self, description: str) -> None:
        """Begin the next step."""
        if self._is_started:
            self._bar.advance(self._task)
        self._is_started = True
        self._bar.update(self._task, description=as_text(description))
