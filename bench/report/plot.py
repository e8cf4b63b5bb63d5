"""What every figure shares: the Plot that a page shows, its style, and the arms' colours and marks (`bench.arms`).

Nothing touches pyplot or a display, and the SVG text of the same numbers is the same to the byte.
"""

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from bench.arms import REFERENCE, REFERENCE_COLOUR, arm_of
from bench.report.words import Row, is_number

NEUTRAL = "#333333"
"""Of lines that belong to no arm."""
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text: it can be selected, searched and read aloud
    "svg.hashsalt": "bench.report",  # ids inside the SVG do not change from one rendering to the next
    "text.parse_math": False,  # names come from data; a $ is a $
    "font.family": "sans-serif",
    "font.size": 10.0,
    "axes.titlesize": 11.0,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e6e6e6",
    "axes.edgecolor": "#777777",
    "legend.frameon": False,
    "lines.linewidth": 1.6,
}
# A decorator: titles and legends read the style when they are made, not when they are drawn.
styled = matplotlib.rc_context(_STYLE)
_SIZE = (4.8, 3.2)  # inches; small enough to be read on a phone without scaling down
WIDE = (9.6, 2.6)


@dataclass(frozen=True, eq=False)
class Plot:
    """A figure with its file name (no suffix), title, and a description for those who cannot see it."""

    name: str
    title: str
    alt: str
    figure: Figure

    @property
    def is_wide(self) -> bool:
        """Whether it needs the full width of a page."""
        return self.figure.get_figwidth() > _SIZE[0]

    def svg(self) -> str:
        """The figure as an SVG document without date or tool metadata."""
        return self._svg

    @cached_property
    @styled
    def _svg(self) -> str:
        text = io.StringIO()
        metadata = {"Date": None, "Creator": None, "Format": None, "Type": None}
        FigureCanvasSVG(self.figure).print_svg(text, metadata=metadata)
        return text.getvalue()

    def inline_svg(self) -> str:
        """The figure as an `<svg>` element whose ids start with the plot's name, unlike any other plot's."""
        svg = self.svg()
        svg = svg[svg.index("<svg") :]
        svg = re.sub(r'\bid="', f'id="{self.name}-', svg)
        svg = re.sub(r"url\(#", f"url(#{self.name}-", svg)
        svg = re.sub(r'href="#', f'href="#{self.name}-', svg)
        return svg.replace("<svg", '<svg aria-hidden="true"', 1)  # the element around it carries the label

    def _repr_svg_(self) -> str:
        return self.svg()


def arm_colour(arm: str, among: Sequence[str] = ()) -> str:
    return REFERENCE_COLOUR if arm == REFERENCE else arm_of(arm, among).colour


def drawn(plots: Sequence[Plot | None]) -> list[Plot]:
    """The plots that had something to draw."""
    return [plot for plot in plots if plot is not None]


def new_axes(size: tuple[float, float] = _SIZE) -> tuple[Figure, Axes]:
    figure = Figure(figsize=size, layout="constrained")
    return figure, figure.add_subplot()


def error_bars(rows: Sequence[Row], column: str) -> np.ndarray:
    """(2, rows) distances from the value to the ends of its interval; 0 where there is none."""
    ends = [(row[column], row.get(f"{column}_low"), row.get(f"{column}_high")) for row in rows]
    below = [value - low if is_number(low) else 0.0 for value, low, _ in ends]
    above = [high - value if is_number(high) else 0.0 for value, _, high in ends]
    return np.array([below, above]).clip(min=0)


def point_style(arm: str, among: Sequence[str] = ()) -> dict[str, Any]:
    """Colour and marker; `among` are the arms of the run, as in `arm_of`."""
    return {"color": arm_colour(arm, among), "marker": arm_of(arm, among).marker, "capsize": 3, "markersize": 6}


def slug(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "_", name)
