"""A report of 12 arms and 5,000 posts: how long it takes, how large it is, and how soon it is open."""

import itertools
import json
import random
import time
from pathlib import Path

import pytest
from chromium import CHROMIUM, WHY_NOT, Chromium

from bench import report
from bench.files import read_json, write_json, write_jsonl

pytestmark = [pytest.mark.slow, pytest.mark.long]

N_ARMS, N_PROMPTS = 12, 5_000


def text(rng: random.Random, words: int) -> str:
    return " ".join("".join(rng.choices("etaoinshrdlu", k=rng.randint(2, 9))) for _ in range(words))


@pytest.fixture(scope="module")
def large(write_run, tmp_path_factory) -> Path:
    """Posts of 270 words and summaries of 25, as TL;DR's, every pair judged by two judges in both orders."""
    folder = write_run(tmp_path_factory.mktemp("large") / "run")
    rng = random.Random(0)
    metrics = read_json(folder / "metrics.json")
    known = ["base", "sft", "ppo", "dpo", *(f"policy_{place}" for place in range(N_ARMS - 4))]
    duel = metrics["head_to_head"]["dpo_vs_ppo"]
    for arm in known[4:]:
        metrics["arms"][arm] = metrics["arms"]["dpo"]
    pairs = list(itertools.combinations(sorted(known), 2))
    metrics["head_to_head"] = {f"{a}_vs_{b}": duel for a, b in pairs}
    for of_judge in metrics["bradley_terry"].values():
        of_judge |= {arm: of_judge["dpo"] for arm in known[4:]}
    write_json(folder / "metrics.json", metrics)
    ids = [f"t3_{place:06d}" for place in range(N_PROMPTS)]
    prompts = [{"prompt_id": i, "prompt": text(rng, 270), "reference": text(rng, 25)} for i in ids]
    write_jsonl(folder / "prompts.jsonl", prompts)
    for arm in known:
        rows = [
            {
                "arm": arm, "prompt_id": i, "completion": text(rng, 25), "temperature": 0.7, "n_tokens": 30,
                "finished": True, "logp": -20.0, "ref_logp": -21.0, "kl": 1.0, "degenerate": [],
                "reward": {"gold": 1.25, "proxy": -0.5},
            }
            for i in ids
        ]  # fmt: skip
        write_jsonl(folder / "completions" / f"{arm}.jsonl", rows)
    for judge in ("gold", "reward_model"):
        with open(folder / "verdicts" / f"{judge}.jsonl", "w", encoding="utf-8") as handle:
            for a, b in [*((arm, "reference") for arm in known), *pairs]:
                row = {"arm_a": a, "arm_b": b, "judge": judge, "prompt_hash": "", "verdict": rng.choice("ab")}
                head = json.dumps(row)[:-1]
                for i in ids:
                    handle.write(
                        f'{head}, "order": "ab", "prompt_id": "{i}"}}\n{head}, "order": "ba", "prompt_id": "{i}"}}\n'
                    )
    return folder


def test_a_large_report_is_quick_and_small(large, tmp_path):
    start = time.process_time()  # what others do on the machine meanwhile is not the report's
    page = report.render_run(large, tmp_path)
    cpu_s, size = time.process_time() - start, page.stat().st_size
    print(f"report of {N_ARMS} arms and {N_PROMPTS:,} posts: {cpu_s:.1f} s, {size / 1e6:.1f} MB")
    assert size < 25e6
    assert cpu_s < 10

    if CHROMIUM is None:
        pytest.skip(WHY_NOT)
    browser = Chromium(tmp_path / "profile")
    open_s = browser.open(page)
    shown = browser.run("document.getElementById('browser-status').textContent")
    nodes = browser.run("document.querySelectorAll('*').length")
    browser.close()
    print(f"opens in {open_s:.1f} s with {nodes:,} nodes: {shown}")
    assert open_s < 2 and nodes < 20_000
