"""report.html and report.md: any text is safe in them, and HTML is sound."""

import base64
import hashlib
import json
import re

import pytest

from bench import report
from bench.report.page import to_html
from bench.report.render import run_page
from bench.report.words import plain

pytestmark = pytest.mark.slow  # whole pages


@pytest.fixture(scope="module")
def rendered(tmp_path_factory, write_run):
    """The default run with its report, for tests that only read it."""
    path = write_run(tmp_path_factory.mktemp("rendered") / "run")
    report.render_run(path)
    return path


def test_page_structure_is_sound_and_labelled(reading, rendered):
    _, outline = reading.page(rendered / "report.html")

    (root,) = outline.all("html")
    assert root["lang"] == "en" and outline.all("title")
    assert len(outline.all("h1")) == 1
    ids = [attrs["id"] for _, attrs in outline.elements if "id" in attrs]
    assert len(ids) == len(set(ids))
    assert {attrs["href"].removeprefix("#") for attrs in outline.all("a")} <= set(ids)
    assert all(attrs.get("scope") in ("col", "row") for attrs in outline.all("th"))
    pictures = [attrs for _, attrs in outline.elements if attrs.get("role") == "img"]
    assert len(pictures) == len(outline.all("figure")) == len(outline.all("svg"))
    assert len(pictures) == len(report.figures(report.load_run(rendered)))
    assert all(len(attrs["aria-label"]) > 20 for attrs in pictures)
    assert len(outline.all("caption")) == len(outline.all("table"))


def test_page_is_one_file_that_asks_for_nothing_and_runs_its_own_script_alone(reading, rendered):
    page, outline = reading.page(rendered / "report.html")
    assert not outline.all("link") and not outline.all("img")
    for _, attrs in outline.elements:
        for name in ("src", "href", "xlink:href", "action"):
            assert attrs.get(name, "#").startswith("#")
        assert not [name for name in attrs if name.startswith("on")]
    assert "@import" not in page and not re.search(r"url\((?!#)", page)

    assert outline.all("script") == [{"type": "application/json", "id": "browser-data"}, {}]
    (policy,) = (attrs["content"] for attrs in outline.all("meta") if "http-equiv" in attrs)
    digest = base64.b64encode(hashlib.sha256(outline.scripts[1].encode()).digest()).decode()
    assert "default-src 'none'" in policy and f"script-src 'sha256-{digest}'" in policy


HOSTILE = (
    "</dd></details></script><script>alert(1)</script><!--<script><img src=x onerror=alert(2)> | `code` *bold*"
    " [link](http://x)\r\nsecond line\x00\x1b[31m \u202eright to left \uffff \ud800 مرحبا"
)


def test_data_texts_stay_text_in_html_and_markdown(reading, make_run):
    path = make_run()
    for file in (path / "completions").glob("*.jsonl"):
        rows = [json.loads(line) | {"completion": HOSTILE} for line in file.read_text().splitlines()]
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    prompts = [json.loads(line) for line in (path / "prompts.jsonl").read_text().splitlines()]
    prompts = [row | {"prompt": HOSTILE, "reference": HOSTILE} for row in prompts]
    (path / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in prompts))

    page, outline = reading.page(report.render_run(path))  # balanced, so nothing closed an element early

    assert len(outline.all("script")) == 2 and not outline.all("img")  # the page's own
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert not set(page) & {"\x00", "\x1b", "\r", "\u202e", "\uffff"}
    shown = r"\u0000\u001b[31m \u202eright to left \uffff \ud800 مرحبا"
    assert shown in page
    assert {attrs.get("dir") for attrs in outline.all("dd")} == {"auto"}

    assert "<" not in outline.scripts[0]
    for sample in reading.samples(outline)["samples"]:
        for text in (sample["post"], sample["Reference summary"][0], sample["DPO"][0]):
            assert text.startswith("</dd></details></script><script>alert(1)</script><!--<script><img")
            assert text.endswith(shown)

    markdown = (path / "report.md").read_text(encoding="utf-8")
    assert "<script" not in markdown and "<img" not in markdown
    tables = [line for line in markdown.split("\n") if "right to left" in line]
    assert len(tables) == 3 * (1 + 4 + 1)  # 3 samples: reference summary, 4 arms, the prompt
    for line in tables:
        assert len(re.findall(r"(?<!\\)\|", line)) == 3  # two cells: the text's own pipe is escaped
        assert r"\`code\` \*bold\* \[link\](http://x)<br>second line" in line


def test_a_text_without_end_is_cut_in_the_page_and_its_length_said(reading, make_run):
    path = make_run()
    file = path / "completions" / "dpo.jsonl"
    rows = [json.loads(line) | {"completion": "ha " * 350_000} for line in file.read_text().splitlines()]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))

    page, outline = reading.page(report.render_run(path))

    said = " … [cut here: 1,050,000 characters in all]"
    assert len(page) < 2_000_000 and page.count(said) == 3 + 40  # the first samples, and the browser's
    assert reading.samples(outline)["samples"][0]["DPO"][0] == ("ha " * 1667)[:5000] + said
    assert "cut here: 1,050,000" in (path / "report.md").read_text(encoding="utf-8")


def test_a_lone_surrogate_does_not_break_the_encoding():
    assert plain("a\ud800b").encode("utf-8") == rb"a\ud800b"


def test_names_from_data_stay_text_too(reading, make_run, edit):
    path = make_run()
    name = '<b onclick="x">$arm</b>'

    def rename(metrics):
        metrics["arms"][name] = metrics["arms"].pop("dpo")
        metrics["head_to_head"] = {f"{name}_vs_sft": metrics["head_to_head"]["dpo_vs_sft"]}

    edit(path / "metrics.json", rename)
    page = to_html(run_page(report.load_run(path)))
    assert not reading.outline(page).all("b")
    assert "&lt;b onclick=" in page


def test_markdown_has_the_same_numbers_as_html(reading, rendered):
    page, _ = reading.page(rendered / "report.html")
    markdown = (rendered / "report.md").read_text(encoding="utf-8")
    assert re.search(r"\| device-hours of RLHF .* \| 2\.67 \| 1 \| supported \|", markdown)  # 120 s over 45 s
    in_html = re.findall(r"\d+\.\d %", page)
    in_markdown = re.findall(r"\d+\.\d %", markdown)
    assert len(in_markdown) > 30 and set(in_markdown) <= set(in_html)
    for name in re.findall(r"\(figures/(.*?)\)", markdown):
        assert (rendered / "figures" / name).is_file()


def test_rendering_again_gives_the_same_files(rendered, tmp_path):
    report.render_run(rendered, tmp_path)
    files = [file.relative_to(tmp_path) for file in tmp_path.rglob("*") if file.is_file()]
    assert len(files) == 2 + len(report.figures(report.load_run(rendered)))  # report.html, report.md, the figures
    for file in files:
        assert (tmp_path / file).read_bytes() == (rendered / file).read_bytes()
