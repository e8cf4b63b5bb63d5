"""Figures: sound SVG, the same every time."""

import re
import xml.etree.ElementTree as ET

import pytest

from bench import report


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
        assert reading.axes(plot).get_title(loc="left") and reading.axes(plot).get_xlabel()


def test_inline_svgs_of_one_page_share_no_id(plots):
    ids = [set(re.findall(r'\bid="([^"]+)"', plot.inline_svg())) for plot in plots]
    assert sum(map(len, ids)) == len(set().union(*ids))


def test_inline_svg_refers_to_ids_that_it_has(plots):
    for plot in plots:
        svg = plot.inline_svg()
        used = set(re.findall(r'(?:url\(|href=")#([^)"]+)', svg))
        assert used and used <= set(re.findall(r'\bid="([^"]+)"', svg))
