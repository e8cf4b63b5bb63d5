"""report.html and report.md: what they say, that any text is safe in them, and that HTML is sound."""

import hashlib
import html.parser
import json
import re
import shutil
import subprocess

import pytest

from bench import report
from bench.report.page import to_html
from bench.report.render import run_page
from bench.report.sections.answer import answer
from bench.report.summary import summary
from bench.report.words import plain

VOID = {"meta", "link", "br", "img", "input", "hr"}
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)


class Outline(html.parser.HTMLParser):
    """Checks that tags are balanced while it notes elements, their attributes and the page's visible text."""

    def __init__(self, page: str):
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict]] = []
        self.text: list[str] = []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data):
        if "style" not in self.open:
            self.text.append(data)

    def all(self, tag):
        return [attrs for name, attrs in self.elements if name == tag]


def found(pattern: str, text: str) -> str:
    match = re.search(pattern, text, re.DOTALL)
    assert match, pattern
    return match[1]


@pytest.fixture(scope="module")
def rendered(tmp_path_factory, write_run):
    """The default run with its report, for tests that only read it."""
    path = write_run(tmp_path_factory.mktemp("rendered") / "run")
    report.render_run(path)
    return path


def read(path):
    page = path.read_text(encoding="utf-8")
    return page, Outline(page)


@pytest.mark.slow
def test_page_structure_is_sound_and_labelled(rendered):
    _, outline = read(rendered / "report.html")

    (root,) = outline.all("html")
    assert root["lang"] == "en" and outline.all("title")
    assert len(outline.all("h1")) == 1
    ids = [attrs["id"] for _, attrs in outline.elements if "id" in attrs]
    assert len(ids) == len(set(ids))
    assert {attrs["href"].removeprefix("#") for attrs in outline.all("a")} <= set(ids)
    assert all(attrs.get("scope") in ("col", "row") for attrs in outline.all("th"))
    pictures = [attrs for _, attrs in outline.elements if attrs.get("role") == "img"]
    assert len(pictures) == len(outline.all("figure")) == len(outline.all("svg")) == 18
    assert all(len(attrs["aria-label"]) > 20 for attrs in pictures)
    assert len(outline.all("caption")) == len(outline.all("table"))


def test_page_is_one_file_without_script_or_network(rendered):
    page, outline = read(rendered / "report.html")
    assert not outline.all("script") and not outline.all("link") and not outline.all("img")
    for _, attrs in outline.elements:
        for name in ("src", "href", "xlink:href", "action"):
            assert attrs.get(name, "#").startswith("#")
    assert "@import" not in page and not re.search(r"url\((?!#)", page)


def test_first_sentences_are_made_from_the_numbers(rendered):
    pairs = json.loads((rendered / "metrics.json").read_text())["head_to_head"]
    won = pairs["dpo_vs_sft"]["win_rate"]["gold"]
    open_pair = pairs["dpo_vs_ppo"]["win_rate"]["gold"]

    lines = answer(report.load_run(rendered))

    interval = f"[{100 * won['ci95'][0]:.1f}, {100 * won['ci95'][1]:.1f}]"
    assert f"DPO beats the SFT model on {100 * won['value']:.1f} % {interval} of {won['n']} posts" in lines[0]
    assert "DPO against RLHF (PPO) is not decided at this n" in lines[0]
    assert f"{100 * open_pair['value']:.1f} %" in lines[0]
    assert "RLHF (PPO) 0.0333, DPO 0.0125" in lines[1]  # 120 s and 45 s in hours
    assert "not shown to beat" in lines[2]


@pytest.mark.parametrize(
    ("ci95", "p", "words"),
    [
        ([0.3, 0.45], 0.01, "DPO loses to RLHF (PPO), winning on 40.0 % [30.0, 45.0]"),
        ([0.3, 0.45], 0.125, "not decided at this n"),
        ([0.55, 0.7], 0.01, "beats"),
        ([0.55, 0.7], 0.05, "not decided at this n"),
        ([0.3, 0.55], 0.01, "not decided at this n"),
    ],
)
def test_interval_and_test_decide_what_the_answer_says(make_run, edit, ci95, p, words):
    path = make_run(logs=False)
    measured = {"value": 0.4, "ci95": ci95, "n": 58, "ties": 0, "unparsed": 0}

    def change(metrics):
        metrics["head_to_head"]["dpo_vs_ppo"]["win_rate"]["gold"] = measured
        metrics["head_to_head"]["dpo_vs_ppo"]["p_holm"]["gold"] = p

    edit(path / "metrics.json", change)
    run = report.load_run(path)
    assert words in answer(run)[0].split(";")[0]
    (line,) = (line for line in summary(path).splitlines() if line.startswith("  dpo beats ppo (gold)"))
    assert ("not decided" in words) == line.endswith("not decided at this n")


def test_main_table_shows_each_arm_with_interval_and_n(rendered):
    won = json.loads((rendered / "metrics.json").read_text())["arms"]["dpo"]["win_rate"]["gold"]
    page, _ = read(rendered / "report.html")
    row = found(r'<th scope="row">DPO</th>(.*?)</tr>', page)
    assert f"{100 * won['value']:.1f} %" in row
    assert f"[{100 * won['ci95'][0]:.1f}, {100 * won['ci95'][1]:.1f}] n {won['n']}" in row


@pytest.mark.slow
@pytest.mark.parametrize(
    ("verdict", "words"),
    [
        ("supported", "The reward model beats “longer wins”"),
        ("contradicted", "The reward model is worse than “longer wins”"),
        (
            "not decided at this n",
            "The reward model does not beat “longer wins” as far as these pairs can show",
        ),
    ],
)
def test_report_says_whether_the_reward_model_beats_longer_wins(make_run, edit, verdict, words):
    path = make_run(logs=False)
    edit(path / "metrics.json", lambda metrics: metrics["reward_model"].update(beats_longer_wins=verdict))
    run = report.load_run(path)
    assert words in to_html(run_page(run))
    assert any("Read with care" in line for line in answer(run)) is (verdict != "supported")


def test_samples_are_the_first_prompts_by_hash_for_every_arm(rendered):
    by_hash = sorted(
        (f"post-{index}" for index in range(60)),
        key=lambda prompt_id: hashlib.sha256(prompt_id.encode()).hexdigest(),
    )
    page, _ = read(rendered / "report.html")
    assert re.findall(r"<h3>(.*?)</h3>", page) == by_hash[:3]  # samples_in_report is 3 in the fixture
    for arm in ("base", "sft", "ppo", "dpo"):
        for prompt_id in by_hash[:3]:
            assert f"{arm} about {prompt_id}<" in page
    assert "not picked by hand" in page


@pytest.mark.slow
def test_samples_take_the_lowest_temperature(make_run):
    path = make_run(logs=False, temperature=0.7)
    file = path / "completions" / "dpo.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    greedy = [row | {"temperature": 0.0, "completion": "greedy " + row["completion"]} for row in rows]
    file.write_text("".join(json.dumps(row) + "\n" for row in greedy + rows))
    page = to_html(run_page(report.load_run(path)))
    assert page.count("greedy dpo about") == 3
    assert ">dpo about" not in page


@pytest.mark.slow
def test_a_reward_model_that_was_not_put_beside_length_is_not_blamed(make_run, edit):
    path = make_run(logs=False)
    edit(path / "metrics.json", lambda metrics: metrics["reward_model"].pop("beats_longer_wins"))
    run = report.load_run(path)
    assert not any("Read with care" in line for line in answer(run))
    assert "The reward model does not beat" not in to_html(run_page(run))


HOSTILE = (
    "</dd></details><script>alert(1)</script><img src=x onerror=alert(2)> | `code` *bold* [link](http://x)"
    "\r\nsecond line\x00\x1b[31m \u202eright to left \uffff مرحبا"
)


@pytest.mark.slow
def test_data_texts_stay_text_in_html_and_markdown(make_run):
    path = make_run(logs=False)
    for file in (path / "completions").glob("*.jsonl"):
        rows = [json.loads(line) | {"completion": HOSTILE} for line in file.read_text().splitlines()]
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    prompts = [json.loads(line) for line in (path / "prompts.jsonl").read_text().splitlines()]
    prompts = [row | {"prompt": HOSTILE, "reference": HOSTILE} for row in prompts]
    (path / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in prompts))

    page, outline = read(report.render_run(path))  # balanced, so nothing closed an element early

    assert not outline.all("script") and not outline.all("img")
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert not set(page) & {"\x00", "\x1b", "\r", "\u202e", "\uffff"}
    assert r"\u0000\u001b[31m \u202eright to left \uffff مرحبا" in page
    assert {attrs.get("dir") for attrs in outline.all("dd")} == {"auto"}

    markdown = (path / "report.md").read_text(encoding="utf-8")
    assert "<script" not in markdown and "<img" not in markdown
    tables = [line for line in markdown.split("\n") if "right to left" in line]
    assert len(tables) == 3 * (1 + 4 + 1)  # 3 samples: reference summary, 4 arms, the prompt
    for line in tables:
        assert len(re.findall(r"(?<!\\)\|", line)) == 3  # two cells: the text's own pipe is escaped
        assert r"\`code\` \*bold\* \[link\](http://x)<br>second line" in line


def test_a_lone_surrogate_does_not_break_the_encoding():
    assert plain("a\ud800b").encode("utf-8") == rb"a\ud800b"


@pytest.mark.slow
def test_names_from_data_stay_text_too(make_run, edit):
    path = make_run(logs=False)
    name = '<b onclick="x">$arm</b>'

    def rename(metrics):
        metrics["arms"][name] = metrics["arms"].pop("dpo")
        metrics["head_to_head"] = {f"{name}_vs_sft": metrics["head_to_head"]["dpo_vs_sft"]}

    edit(path / "metrics.json", rename)
    page = to_html(run_page(report.load_run(path)))
    assert not Outline(page).all("b")
    assert "&lt;b onclick=" in page


def test_markdown_has_the_same_numbers_as_html(rendered):
    page, _ = read(rendered / "report.html")
    markdown = (rendered / "report.md").read_text(encoding="utf-8")
    # Claim 1 of the fixture: 120 s over 45 s.
    assert "| device-hours of RLHF over those of DPO | 2.67 | 1 | supported |" in markdown
    in_html = re.findall(r"\d+\.\d %", page)
    in_markdown = re.findall(r"\d+\.\d %", markdown)
    assert len(in_markdown) > 30 and set(in_markdown) <= set(in_html)
    for name in re.findall(r"\(figures/(.*?)\)", markdown):
        assert (rendered / "figures" / name).is_file()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arms", "gold"), [(("sft", "dpo"), True), (("sft",), False), (("base", "sft", "ppo", "dpo"), False)]
)
def test_absent_arms_and_judges_leave_a_sound_page(make_run, arms, gold):
    page, _ = read(report.render_run(make_run(arms=arms, gold=gold)))
    assert ("RLHF (PPO)" in page) is ("ppo" in arms)
    assert ("Built-in world" in page) is gold
    assert "nan" not in page.lower().split()


def test_a_bare_run_still_renders(make_run, edit):
    path = make_run()

    def keep_only_arms(metrics):
        metrics.clear()
        metrics.update(schema=1, arms={"dpo": {}})

    edit(path / "metrics.json", keep_only_arms)
    edit(path / "run.json", lambda run: [run.pop(key) for key in list(run) if key != "schema"])
    for file in ("completions", "training"):
        shutil.rmtree(path / file)
    (path / "prompts.jsonl").unlink()
    page, _ = read(report.render_run(path))
    assert "This run compares no two arms" in page


def test_rendering_again_gives_the_same_files(rendered, tmp_path):
    report.render_run(rendered, tmp_path)
    files = [file.relative_to(tmp_path) for file in tmp_path.rglob("*") if file.is_file()]
    assert len(files) == 2 + 18  # report.html, report.md and the figures
    for file in files:
        assert (tmp_path / file).read_bytes() == (rendered / file).read_bytes()


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium or chrome on PATH")
def test_a_browser_shows_it_without_sideways_scrolling(rendered, tmp_path):
    page = (rendered / "report.html").read_text(encoding="utf-8")
    frame = tmp_path / "frame.html"
    probe = (
        "<script>onload = () => { const page = frames[0].document, root = page.documentElement;"
        " document.title = [root.scrollWidth, root.clientWidth,"
        " page.querySelectorAll('h2').length, page.querySelectorAll('table').length].join(' ') }</script>"
    )
    # A phone's width: headless browsers open no window that narrow, a frame can be.
    inner = page.replace("&", "&amp;").replace('"', "&quot;")
    frame.write_text(f'<iframe srcdoc="{inner}" width="390" height="800"></iframe>{probe}', encoding="utf-8")
    flags = (
        "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
        " --disable-component-update --disable-sync --dump-dom"
    )
    command = [CHROMIUM, *flags.split(), f"--user-data-dir={tmp_path / 'profile'}", frame.as_uri()]
    dom = subprocess.run(command, capture_output=True, text=True, timeout=600, check=True).stdout
    scroll_width, client_width, headings, tables = map(int, found(r"<title>(.*?)</title>", dom).split())
    assert client_width > 300 and scroll_width <= client_width
    assert headings == page.count("<h2") and tables == page.count("<table")
