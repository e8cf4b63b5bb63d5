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
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from bench.arms import REFERENCE, REFERENCE_COLOUR, arm_of
from bench.report.words import Row, is_number

NEUTRAL = "#333333"
"""Of lines that belong to no arm."""
SERIES = ("#8F63B8", "#7F7A1A")
"""Of what is no arm and needs a colour: chosen and rejected, training and held out. As the arms' colours they have a
contrast of 3:1 and more on the white and on the dark page."""
_INK, _SOFT, _LINE, _GROUND = "#1b1f24", "#59636e", "#d9dee4", "#ffffff"
_OF_THE_PAGE = {_INK: "--ink", NEUTRAL: "--ink", _SOFT: "--soft", _LINE: "--line", _GROUND: "--card"}
"""Colours that the page has for itself, in light and dark (templates/report.html.j2)."""
_STYLE: dict[Any, Any] = {
    "pdf.fonttype": 42,  # letters, which journals ask for, and no drawings of them
    "svg.fonttype": "none",  # text stays text: it can be selected, searched and read aloud
    "svg.hashsalt": "bench.report",  # ids inside the SVG do not change from one rendering to the next
    "text.parse_math": False,  # names come from data; a $ is a $
    "font.family": "sans-serif",
    "font.size": 10.5,  # the page shows a unit as 0.95 to 1.2 px
    "axes.titlesize": 11.5,
    "axes.titlelocation": "left",
    "axes.labelsize": 10.5,
    "xtick.labelsize": 10.5,
    "ytick.labelsize": 10.5,
    "legend.fontsize": 10.5,
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "axes.titlecolor": _INK,
    "xtick.labelcolor": _INK,
    "ytick.labelcolor": _INK,
    "xtick.color": _SOFT,
    "ytick.color": _SOFT,
    "axes.edgecolor": _SOFT,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": _LINE,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
}
# A decorator: titles and legends read the style when they are made, not when they are drawn.
styled = matplotlib.rc_context(_STYLE)
SIZE = (4.8, 3.3)  # inches; small enough to be read on a phone without scaling down
WIDE = (9.6, 2.6)
_KLS = (0, 0.05, 0.1, 0.25, 0.5, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


@dataclass(frozen=True, eq=False)
class Plot:
    """A figure with its file name (no suffix), title, a description for those who cannot see it, and the caption under
    it: n, and what to look for."""

    name: str
    title: str
    alt: str
    figure: Figure
    caption: str

    @property
    def is_wide(self) -> bool:
        """Whether it needs the full width of a page."""
        return self.figure.get_figwidth() > SIZE[0]

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

    @styled
    def saved(self, kind: str) -> bytes:
        """The figure as a `png` or `pdf` file, for a paper or a slide, without date or tool metadata."""
        content = io.BytesIO()
        if kind == "png":
            FigureCanvasAgg(self.figure).print_figure(content, format="png", dpi=200, metadata={"Software": None})
        else:
            metadata = {"CreationDate": None, "Creator": None, "Producer": None}
            FigureCanvasPdf(self.figure).print_figure(content, format="pdf", metadata=metadata)
        return content.getvalue()

    def inline_svg(self) -> str:
        """The figure as an `<svg>` element in the page's own colours, whose ids start with the plot's name, unlike any
        other plot's."""
        svg = self.svg()
        svg = svg[svg.index("<svg") :]
        svg = re.sub(r'\bid="', f'id="{self.name}-', svg)
        svg = re.sub(r"url\(#", f"url(#{self.name}-", svg)
        svg = re.sub(r'href="#', f'href="#{self.name}-', svg)
        for colour, variable in _OF_THE_PAGE.items():
            svg = re.sub(rf'{colour}(?=[;"])', f"var({variable})", svg)
        return svg.replace("<svg", '<svg aria-hidden="true"', 1)  # the element around it carries the label

    def _repr_svg_(self) -> str:
        return self.svg()


def arm_colour(arm: str, among: Sequence[str] = ()) -> str:
    return REFERENCE_COLOUR if arm == REFERENCE else arm_of(arm, among).colour


def drawn(plots: Sequence[Plot | None]) -> list[Plot]:
    """The plots that had something to draw."""
    return [plot for plot in plots if plot is not None]


def new_axes(size: tuple[float, float] = SIZE) -> tuple[Figure, Axes]:
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


def dots(
    labels: Sequence[str], rows: Sequence[Row], column: str, among: Sequence[str] = (), scale: float = 1
) -> tuple[Figure, Axes]:
    """A row's number as a dot with its interval, in its arm's colour and mark, the first row on top."""
    figure, axes = new_axes((SIZE[0], 1.15 + 0.29 * len(rows)))
    for place, row in enumerate(rows):
        bars = scale * error_bars([row], column)
        axes.errorbar(
            [scale * row[column]], [place], xerr=bars, linestyle="none", zorder=3, **point_style(row["arm"], among)
        )
    rows_axis(axes, labels)
    return figure, axes


def rows_axis(axes: Axes, labels: Sequence[str]) -> None:
    """A name at every row, the first on top."""
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.grid(False, axis="y")


def per_cent_axis(axis: Axis) -> None:
    """From 0 to 100, with room for a mark at either end."""
    axis.set_ticks([0, 25, 50, 75, 100])
    axis.set_view_interval(-4, 104, ignore=True)


def root_of_kl(rows: Sequence[Row]) -> tuple[np.ndarray, np.ndarray]:
    """Places of `kl_ref` on an axis of its root, and (2, rows) distances to the ends of its interval."""
    kls = np.array([row["kl_ref"] for row in rows], float).clip(min=0)
    below, above = error_bars(rows, "kl_ref")
    at, low, high = (np.sqrt(values.clip(min=0)) for values in (kls, kls - below, kls + above))
    return at, np.array([at - low, high - at])


def root_of_kl_axis(axes: Axes) -> None:
    """The x axis, which is the root of a KL, labelled with the KLs themselves."""
    end = axes.get_xlim()[1]
    ticks: list[float] = []
    for kl in _KLS:
        if kl**0.5 <= end and (not ticks or kl**0.5 - ticks[-1] ** 0.5 > end / 11):
            ticks.append(kl)
    axes.set_xticks([kl**0.5 for kl in ticks], [f"{kl:g}" for kl in ticks])
    axes.set_xlabel("KL to the SFT model, nats per completion (root scale)")


def label_points(axes: Axes, labels: Sequence[tuple[str, float, float]]) -> None:
    """(text, x, y) beside its point, where it hides neither a label before it nor another labelled point; left out
    where all four corners are taken. To be called once the axes have their limits."""
    of = np.array([axes.transData.transform((x, y)) for _, x, y in labels]) if labels else np.empty((0, 2))
    taken: list[np.ndarray] = []
    for (text, x, y), at in zip(labels, of, strict=True):
        width = 6.5 * len(text)
        for offset in ((5, 5), (5, -13), (-5 - width, 5), (-5 - width, -13)):
            middle = at + np.array(offset) + np.array((width / 2, 4))
            room = np.array((width / 2 + 4, 9))
            others = [*taken, *(other for other in of if (other != at).any())]
            if all((np.abs(middle - other) > room).any() for other in others):
                axes.annotate(text, (x, y), offset, textcoords="offset points")
                taken.append(middle)
                break


def slug(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "_", name)
