"""Charts of a report: drawn by matplotlib, embedded as SVG, with the text colour of the page."""

import io
import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from face_lightning.imports import import_optional
from face_lightning.reports.gains import Estimate, Group

_INK = "#010203"  # placeholder, replaced by the text colour of the page
COLORS = ("#3b82f6", "#e07b39", "#2f9e6e", "#a05fd0", "#d6457a", "#8a8f98")
_SETTINGS = {
    "font.family": "sans-serif",
    "font.size": 9,
    "svg.fonttype": "none",
    "svg.hashsalt": "face",
    "text.parse_math": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.15,
    **dict.fromkeys(
        ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color", "grid.color"), _INK
    ),
}
_MAX_POINTS = 200  # per line
_METADATA = dict.fromkeys(("Date", "Creator", "Format", "Type"))


class Charts:
    """Draws charts, with unique element ids across all charts of a page.

    Raises:
        MissingDependencyError: If matplotlib is not installed.
    """

    def __init__(self) -> None:
        self._matplotlib = import_optional("matplotlib", extra="plot", purpose="charts of face report")
        self._figure = import_optional("matplotlib.figure", extra="plot", purpose="charts of face report")
        self._count = 0

    def curves(self, series: Mapping[str, tuple[Sequence[float], Sequence[float]]], ylabel: str) -> str:
        """Draw lines of values over epochs.

        Args:
            series: Epochs and values by name.
            ylabel: Label of the y axis.
        """

        def draw(axes: Any) -> None:  # noqa: ANN401
            for color, (name, (epochs, values)) in zip(_cycle(len(series)), series.items(), strict=True):
                axes.plot(epochs, values, color=color, label=name, marker="o" if len(epochs) < 2 else None)
            axes.set(xlabel="epoch", ylabel=ylabel)
            axes.xaxis.get_major_locator().set_params(integer=True)
            _legend(axes, len(series))

        return self._draw(draw, f"{ylabel} over epochs")

    def intervals(self, values: Mapping[str, Estimate], xlabel: str) -> str:
        """Draw one row with mean and interval for each name."""

        def draw(axes: Any) -> None:  # noqa: ANN401
            for row, value in enumerate(values.values()):
                axes.errorbar(value.mean, row, xerr=value.half_width, fmt="o", color=COLORS[row > 0], capsize=3)
            axes.set_yticks(range(len(values)), [_short(name) for name in values])
            axes.invert_yaxis()
            axes.set_xlabel(xlabel)

        return self._draw(draw, f"{xlabel} of each run", height=1.2 + 0.3 * len(values))

    def gains(self, groups: Sequence[Group], xlabel: str, ylabel: str) -> str:
        """Draw the gain of each group over every other run, with intervals."""
        names = list(groups[0].gains)

        def draw(axes: Any) -> None:  # noqa: ANN401
            axes.axhline(0, color=_INK, linewidth=0.8)
            shifts = np.linspace(-0.2, 0.2, len(names)) if len(names) > 1 else [0.0]
            for shift, color, name in zip(shifts, _cycle(len(names)), names, strict=True):
                estimates = [group.gains[name] for group in groups]
                axes.errorbar(
                    np.arange(len(groups)) + shift,
                    [gain.mean for gain in estimates],
                    yerr=[gain.half_width for gain in estimates],
                    fmt="o",
                    color=color,
                    capsize=3,
                    label=f"over {_short(name)}",
                )
            axes.set_xticks(range(len(groups)), [group.label for group in groups])
            axes.set(xlabel=xlabel, ylabel=ylabel)
            _legend(axes, 2)

        return self._draw(draw, f"{ylabel} by {xlabel}")

    def word_use(self, shares: Mapping[str, Sequence[float]]) -> str:
        """Draw the share of users and items that have a word, by the word's rank."""

        def draw(axes: Any) -> None:  # noqa: ANN401
            for color, (name, values) in zip(_cycle(len(shares)), shares.items(), strict=True):
                ranks = np.unique(np.geomspace(1, len(values), _MAX_POINTS).astype(int))
                axes.plot(ranks, np.asarray(values)[ranks - 1], color=color, label=name)
            axes.set(xscale="log", yscale="log", xlabel="rank of the word", ylabel="share that has it")
            for axis in (axes.xaxis, axes.yaxis):  # the default formatter writes math markup, which is not parsed
                axis.set_major_formatter(lambda value, _: f"{value:g}")
                axis.set_minor_formatter(lambda *_: "")
            _legend(axes, 2)

        return self._draw(draw, "share of users and items that have a word, by its rank")

    def _draw(self, draw: Any, title: str, height: float | None = None) -> str:  # noqa: ANN401
        with self._matplotlib.rc_context(_SETTINGS):
            figure = self._figure.Figure(figsize=(4.4, height or 2.7), layout="constrained" if height else None)
            if height is None:  # fixed margins are faster than a constrained layout, which draws twice
                figure.subplots_adjust(left=0.17, right=0.98, top=0.97, bottom=0.17)
            figure.patch.set_alpha(0)
            axes = figure.add_subplot()
            axes.patch.set_alpha(0)
            draw(axes)
            file = io.StringIO()
            figure.savefig(file, format="svg", metadata=_METADATA)
        self._count += 1
        return _embed(file.getvalue(), f"c{self._count}", title)


def _embed(svg: str, prefix: str, title: str) -> str:
    """Convert an SVG file to an element of an HTML page: no prologue, unique ids, no style sheet."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\bid="([^"]*)"', rf'id="{prefix}-\1"', svg)
    svg = re.sub(r"url\(#([^)]*)\)", rf"url(#{prefix}-\1)", svg)
    svg = re.sub(r'href="#([^"]*)"', rf'href="#{prefix}-\1"', svg)
    svg = svg.replace(_INK, "currentColor")
    (box,) = re.findall(r'viewBox="([^"]*)"', svg[:1000])
    start = f'<svg role="img" aria-label="{escape(title)}" viewBox="{box}">'
    return re.sub(r"<svg[^>]*>", lambda _: start, svg, count=1)


def _cycle(number: int) -> list[str]:
    return [COLORS[index % len(COLORS)] for index in range(number)]


def _legend(axes: Any, number: int) -> None:  # noqa: ANN401
    if number > 1:
        axes.legend(frameon=False, fontsize=8)


def _short(name: str) -> str:
    return name if len(name) <= 24 else f"…{name[-23:]}"
