"""The reports in a real browser: on a phone and on a desk, light, dark and printed; and their browser of samples."""

import importlib.resources
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from chromium import CHROMIUM, WHY_NOT, Chromium

from bench import report
from bench.report.browser import by_hash

pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason=WHY_NOT)]

REFERENCE = Path(__file__).parents[2] / "results" / "reference"
PUBLISHED = ("builtin", "builtin_seeds", "beta_frontier", "tuned", "temperature", "overoptimisation")
WIDTHS = (390, 1440)
PAPER = 718
"""A4 less margins of a centimetre, in pixels of CSS."""
CUT = """
(() => {
  const wide = document.documentElement.clientWidth + 1, found = [];
  if (document.documentElement.scrollWidth > wide) found.push(`the page: ${document.documentElement.scrollWidth}`);
  const scrolls = (element) => ["auto", "scroll"].includes(getComputedStyle(element).overflowX);
  const inside = (element) => element && (scrolls(element) || inside(element.parentElement));
  for (const element of document.querySelectorAll("body *")) {
    if (element.closest("svg, select, details:not([open]) > :not(summary)")) continue;
    if (!element.getClientRects().length) continue;
    const name = `${element.tagName} ${element.className}: ${element.textContent.slice(0, 40)}`;
    const hides = ["hidden", "clip"].includes(getComputedStyle(element).overflowX);
    if (hides && element.scrollWidth > element.clientWidth + 1) found.push(`cut ${name}`);
    if (element.getBoundingClientRect().right > wide && !inside(element.parentElement)) found.push(`beyond ${name}`);
  }
  return found.slice(0, 5);
})()
"""
"""What is cut off: wider than a box that hides the rest, or beyond the page's edge outside a box that scrolls."""
AXE = (
    "axe.run(document, {resultTypes: ['violations']}).then(found => found.violations.map("
    "of => `${of.id} (${of.impact}), ${of.nodes.length} times: ${of.nodes[0].html.slice(0, 200)}`))"
)


@pytest.fixture(scope="module")
def browser(tmp_path_factory) -> Iterator[Chromium]:
    found = Chromium(tmp_path_factory.mktemp("profile"))
    yield found
    found.close()


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_report_is_whole_on_a_phone_a_desk_and_paper(browser, name):
    page = REFERENCE / name / "report.html"
    for width in WIDTHS:
        browser.open(page, width)
        assert browser.run(CUT) == []
        browser.light(dark=True)
        assert browser.run("getComputedStyle(document.body).backgroundColor") == "rgb(20, 23, 27)"
        assert browser.run(CUT) == []
        assert browser.said == [] and browser.asked == [page.as_uri()]
    browser.open(page, PAPER)
    browser.light(media="print")
    assert browser.run(CUT) == []


@pytest.mark.parametrize("name", ["builtin", *(pytest.param(name, marks=pytest.mark.long) for name in PUBLISHED[1:])])
@pytest.mark.parametrize(
    ("width", "dark"),
    [(390, False), *(pytest.param(*of, marks=pytest.mark.long) for of in ((390, True), (1440, False), (1440, True)))],
)
def test_a_published_report_is_accessible(browser, name, width, dark):
    browser.open(REFERENCE / name / "report.html", width, dark)
    for details in ("false", "true"):
        browser.run(f"document.querySelectorAll('details').forEach(of => of.open = {details})")
    browser.run(importlib.resources.files("axe_core_python").joinpath("axe.min.js").read_text("utf-8") + "; 0")
    assert browser.run(AXE) == []


@pytest.fixture(scope="module")
def samples(write_run, tmp_path_factory, browser) -> Chromium:
    """The browser of samples of a run with made-up verdicts: gold says that dpo beats sft on the first ten prompts by
    their hashes, whichever is shown first, and on the next five that what is shown first is better."""
    folder = write_run(tmp_path_factory.mktemp("samples") / "run")
    ids = [row["prompt_id"] for row in by_hash(report.load_run(folder).prompts.to_dict("records"))]
    rows = []
    for place, prompt_id in enumerate(ids):
        for order in ("ab", "ba"):
            verdict = "a" if place < 10 else order[0] if place < 15 else "b"
            row = {"arm_a": "dpo", "arm_b": "sft", "order": order, "verdict": verdict, "prompt_id": prompt_id}
            rows.append(row | {"judge": "gold", "prompt_hash": ""})
    (folder / "verdicts" / "gold.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for row in rows:
        row |= {"judge": "reward_model", "verdict": "b" if row["prompt_id"] == ids[0] else row["verdict"]}
    (folder / "verdicts" / "reward_model.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for arm in ("sft", "dpo"):
        file = folder / "completions" / f"{arm}.jsonl"
        of = [json.loads(line) for line in file.read_text().splitlines()]
        for row in of:
            place = ids.index(row["prompt_id"])
            row |= {"completion": f"the {arm} saw number {place}" if place else "both the same", "degenerate": []}
            row["degenerate"] = ["empty"] if arm == "dpo" and place == 7 else []
        file.write_text("".join(json.dumps(row) + "\n" for row in of))
    for arm in ("base", "ppo"):
        file = folder / "completions" / f"{arm}.jsonl"
        of = [json.loads(line) | {"degenerate": []} for line in file.read_text().splitlines()]
        file.write_text("".join(json.dumps(row) + "\n" for row in of))
    browser.open(report.render_run(folder))
    return browser


def choose(browser: Chromium, **of: str | bool) -> str:
    """Set the controls; what the status then says of how many there are."""
    for name, value in of.items():
        field = f"document.getElementById('browser-{name}')"
        if isinstance(value, bool):
            browser.run(f"{field}.checked = {json.dumps(value)}")
        elif name == "search":
            browser.run(f"{field}.value = {json.dumps(value)}")
        else:
            browser.run(f"{field}.selectedIndex = [...{field}.options].findIndex(o => o.text === {json.dumps(value)})")
        kind = "input" if name == "search" else "change"
        browser.run(f"{field}.dispatchEvent(new Event('{kind}'))")
    browser.run("new Promise(done => setTimeout(done, 200))")  # a search waits for the next letter
    return browser.run("document.getElementById('browser-status').textContent").partition(";")[0]


def test_samples_are_filtered_by_who_won_flips_and_disagreement(samples):
    assert choose(samples, arm="DPO", against="SFT", judge="gold judge") == "1 to 5 of 40 samples"
    assert choose(samples, outcome="wins") == "1 to 5 of 10 samples (40 without filters)"
    assert choose(samples, outcome="tie") == "1 to 5 of 5 samples (40 without filters)"  # orders that disagree
    assert choose(samples, outcome="loses") == "1 to 5 of 25 samples (40 without filters)"
    assert choose(samples, arm="SFT", against="DPO", outcome="wins") == "1 to 5 of 25 samples (40 without filters)"
    assert choose(samples, outcome="any", flipped=True) == "1 to 5 of 5 samples (40 without filters)"
    assert choose(samples, flipped=False, disagree=True) == "1 to 1 of 1 samples (40 without filters)"
    assert choose(samples, disagree=False, degenerate=True) == "1 to 1 of 1 samples (40 without filters)"
    assert choose(samples, degenerate=False, distinct=True) == "1 to 5 of 39 samples (40 without filters)"
    assert choose(samples, distinct=False, search="DPO SAW NUMBER 1") == "1 to 5 of 11 samples (40 without filters)"
    assert choose(samples, search="no such words") == "0 samples (40 without filters)"
    assert choose(samples, search="", arm="DPO", against="SFT") == "1 to 5 of 40 samples"


def test_a_sample_shows_each_judge_in_both_orders(samples):
    choose(samples, arm="DPO", against="SFT", search="number 12")
    chips = (
        "[...document.querySelectorAll('#browser-samples .writer')].map(of => [of.querySelector('h4').textContent,"
        " ...[...of.querySelectorAll('li')].map(chip => chip.textContent)])"
    )
    assert samples.run(chips) == [
        ["Reference summary"],
        ["Base"],
        ["SFT"],
        ["RLHF (PPO)"],
        ["DPO", "gold judge: wins, loses (flipped)", "reward-model judge: wins, loses (flipped)"],
    ]
    choose(samples, search="", against="SFT")


def test_words_that_differ_are_marked(samples):
    choose(samples, search="number 3", base="SFT", size="1")
    text = "document.querySelectorAll('#browser-samples .writer')[4].querySelector('.text').innerHTML"
    assert samples.run(text) == "<span>the</span> <del>sft</del> <ins>dpo</ins> <span>saw number 3</span> "
    choose(samples, search="", base="none", size="5")


def test_keys_turn_pages_and_move_between_samples(samples):
    status = "document.getElementById('browser-status').textContent.split(' of ')[0]"
    at = "document.activeElement.querySelector('h3')?.id"
    choose(samples, size="5")
    samples.run("document.activeElement.blur()")
    for key, pages, focused in (
        ("n", "6 to 10", None),
        ("p", "1 to 5", None),
        ("j", "1 to 5", "browser-sample-0"),
        ("j", "1 to 5", "browser-sample-1"),
        ("k", "1 to 5", "browser-sample-0"),
        ("k", "1 to 5", "browser-sample-0"),  # the first page has none before it
    ):
        samples.press(key)
        assert samples.run(status) == pages
        if focused:
            assert samples.run(at) == focused
    samples.press("/")
    assert samples.run("document.activeElement.id") == "browser-search"
    samples.press("n")
    assert samples.run("document.activeElement.value") == "n"  # typed, and no page turned
    choose(samples, search="", keys=False)
    samples.run("document.activeElement.blur()")
    samples.press("n")
    assert samples.run(status) == "1 to 5"
    choose(samples, keys=True)


def test_without_script_the_first_samples_show(browser, samples, tmp_path):
    page = Path(samples.run("location.pathname"))
    browser.open(page, script=False)
    browser.send("Emulation.setScriptExecutionDisabled", value=False)
    shown = "[document.querySelectorAll('#browser-first .sample').length, document.getElementById('browser-first')"
    assert browser.run(f"{shown}.getClientRects().length, document.getElementById('browser-whole').hidden]") == [
        3,
        1,
        True,
    ]
    browser.open(page)
    assert browser.run("document.getElementById('browser-first').hidden")
