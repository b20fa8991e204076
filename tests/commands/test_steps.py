"""Progress is shown on a terminal only."""

import io

import pytest
from rich.console import Console

from face_lightning.commands.steps import Steps


def test_a_terminal_shows_the_step_and_how_many_are_done() -> None:
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, width=100)
    with Steps(3, console) as steps:
        steps("reading [bold]")
        steps("ranking")
        steps._bar.refresh()
    shown = file.getvalue()
    assert "ranking" in shown
    assert "1/3" in shown


def test_a_log_shows_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with Steps(1) as steps:
        steps("ranking")
    assert capsys.readouterr() == ("", "")
