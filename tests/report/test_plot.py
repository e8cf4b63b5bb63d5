"""Figures: sound SVG, the same every time."""

import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from bench import report
from bench.arms import ARMS, arm_of
from bench.report.plot import SERIES, new_axes, root_of_kl, root_of_kl_axis

TEMPLATE = Path(report.__file__).parent / "templates" / "report.html.j2"


@pytest.fixture(scope="module")
def plots(collapsed_dir):
    """Every figure of a run; an SVG is drawn once."""
    return list(report.figures(report.load_run(collapsed_dir)).values())


@pytest.mark.slow
def test_two_renderings_are_the_same_to_the_byte(collapsed_dir, plots):
    again = report.figures(report.load_run(collapsed_dir)).values()
    assert [plot.svg() for plot in again] == [plot.svg() for plot in plots]


def test_every_plot_is_an_svg_with_a_name_a_description_and_units(plots, reading):
    assert len({plot.name for plot in plots}) == len(plots) > 10
    for plot in plots:
        assert ET.fromstring(plot.svg()).tag == "{http://www.w3.org/2000/svg}svg"
        assert len(plot.alt) > len(plot.title)
        assert re.match(r"\d|Measured once", plot.caption), "n comes first"
        assert reading.axes(plot).get_title(loc="left") and reading.axes(plot).get_xlabel()


def test_inline_svgs_of_one_page_share_no_id(plots):
    ids = [set(re.findall(r'\bid="([^"]+)"', plot.inline_svg())) for plot in plots]
    assert sum(map(len, ids)) == len(set().union(*ids))


def test_inline_svg_refers_to_ids_that_it_has(plots):
    for plot in plots:
        svg = plot.inline_svg()
        used = set(re.findall(r'(?:url\(|href=")#([^)"]+)', svg))
        assert used and used <= set(re.findall(r'\bid="([^"]+)"', svg))


def luminance(colour):
    """Relative luminance of #rrggbb (WCAG 2.2)."""
    of = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in of)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("ground", re.findall(r"--card: (#[0-9a-f]{6})", TEMPLATE.read_text(encoding="utf-8")))
def test_every_colour_has_a_contrast_of_three_on_the_light_and_the_dark_page(ground):
    for colour in {*(arm.colour for arm in ARMS), *(arm_of(f"other {i}").colour for i in range(50)), *SERIES}:
        low, high = sorted((luminance(colour), luminance(ground)))
        assert (high + 0.05) / (low + 0.05) >= 3, (colour, ground)


def test_the_page_has_the_figures_in_its_own_colours_and_the_file_on_white(plots):
    for plot in plots:
        inline = plot.inline_svg()
        assert "var(--ink)" in inline and "fill: var(--card)" in inline
        assert not set(re.findall(r"#(?:1b1f24|333333|ffffff|000000)(?=[;\"])", inline))
        assert "fill: #ffffff" in plot.svg() and "var(" not in plot.svg()


def test_places_on_the_axis_are_roots_of_kl_and_its_labels_the_kls():
    rows = [{"kl_ref": 4.0, "kl_ref_low": 1.0, "kl_ref_high": 9.0}, {"kl_ref": -0.01}]
    at, bars = root_of_kl(rows)
    assert list(at) == [2.0, 0.0]
    assert bars.tolist() == [[1.0, 0.0], [1.0, 0.0]]
    _, axes = new_axes()
    axes.plot(at, [0, 1])
    axes.set_xlim(0, 4)
    root_of_kl_axis(axes)
    labels = [label.get_text() for label in axes.get_xticklabels()]
    assert labels == ["0", "0.25", "1", "2", "4", "8", "16"]
    assert list(axes.get_xticks()) == pytest.approx([float(label) ** 0.5 for label in labels])
