"""What the win rates of a run must not be read without: a truth or a judge that fails a check, policies that are
over-optimised."""

from collections.abc import Mapping, Sequence
from typing import Any

from bench.report.columns import marked_judge
from bench.report.load import NOT_TRAINED, START, TRUTH, Run, estimate_columns
from bench.report.words import Row, arm_name, count, in_words, is_number, judge_name, number

_UNTRAINED = "base"
_ROLLED_OUT = ("ppo", "rloo")
_OF_PAIRS = frozenset({"dpo", "preferred_ft"})
_POSTS = {
    "demonstrations": "the posts of the demonstrations",
    "both": "those of the demonstrations as well as of the pairs",
}
_TEXTS = {
    "empty": "nothing at all",
    "title": "the post's title",
    "shuffled": "the reference summary's words in a drawn order",
}
"""Of `judges.<judge>.checks`."""


def failed_checks(run: Run) -> dict[str, str]:
    """Judge -> how it fails: it is decided to prefer to the reference summaries what the untrained model writes, or a
    text that no judge may prefer.

    What the truth prefers too is no failure: then the model can summarize before any training.
    """
    preferred: dict[str, list[str]] = {}
    for row in checks(run):
        if row["judge"] not in TRUTH and _is_above(row, "rate", 0.5):
            said = f"{row['text']} ({in_words(row, 'rate')} of {count(row.get('rate_n'))} posts)"
            preferred.setdefault(row["judge"], []).append(said)
    return {
        judge: f"The {judge_name(judge)} fails a check: to the reference summaries it prefers {' and '.join(texts)}."
        " Decide nothing by it."
        for judge, texts in preferred.items()
    }


def with_fails(run: Run, rows: Sequence[Row]) -> list[Row]:
    """The rows, each with whether its judge fails a check: `judge_fails`, which the column JUDGE says."""
    failed = failed_checks(run)
    return [{**row, "judge_fails": row["judge"] in failed} for row in rows]


def judge_called(run: Run, judge: str) -> str:
    """The judge's name where its numbers stand alone: with the mark of one that fails a check."""
    return marked_judge(judge, judge in failed_checks(run))


def checks(run: Run) -> list[dict[str, Any]]:
    """A row per judge and text: `judge`, `text` in words, `rate` (estimate: how often it beats the reference one)."""
    rates = run.metrics["arms"].get(_UNTRAINED, {}).get("win_rate", {})
    of_truth = [estimate_columns("rate", rates.get(judge)) for judge in run.judges if judge in TRUTH]
    rows = []
    for judge in run.judges:
        if judge in rates and not any(_is_above(row, "rate", 0.5) for row in of_truth):
            text = "what the base model writes, before any training"
            rows.append({"judge": judge, "text": text} | estimate_columns("rate", rates[judge]))
        for name, found in run.metrics.get("judges", {}).get(judge, {}).get("checks", {}).items():
            rows.append({"judge": judge, "text": _TEXTS.get(name, name)} | estimate_columns("rate", found))
    return rows


def failed_over(runs: Sequence[Run]) -> dict[str, str]:
    """The same over several runs: the sentence of the first run in which a judge fails, and in how many it does.

    Of a judge that fails in few of many runs chance is an explanation: each is decided at the level of 2.5 %.
    """
    found = [failed_checks(run) for run in runs]
    said: dict[str, str] = {}
    for of_run in found:
        for judge, sentence in of_run.items():
            said.setdefault(judge, sentence)
    return {
        judge: f"In {count(sum(judge in of_run for of_run in found))} of {_put_to_checks(runs, judge)}"
        f" {sentence[0].lower()}{sentence[1:]}"
        for judge, sentence in said.items()
    }


def _put_to_checks(runs: Sequence[Run], judge: str) -> str:
    """How many runs could show that the judge fails one."""
    with_base = [run for run in runs if _UNTRAINED in run.arms]
    checked = [run for run in runs if any(row["judge"] == judge for row in checks(run))]
    if with_base and all(run in with_base for run in checked):
        return f"{count(len(with_base))} runs with the base model"
    return f"{count(len(checked))} runs that put it to one"


def overoptimised(run: Run) -> list[str]:
    """A sentence for each trained arm whose proxy reward rose over the SFT model's while its gold reward fell, or that
    another judge says wins against the reference summaries while the truth says it loses."""
    said = (_overoptimised(run, arm) for arm in run.arms if arm not in NOT_TRAINED)
    return [sentence for sentence in said if sentence]


def doubtful_truth(run: Run) -> list[str]:
    """What the gold reward is decided to prefer to the SFT model's summaries though it needs no model, and labels that
    are not shown to follow it."""
    measured = (run.metrics.get("world") or {}).get("trivial", {})
    rates = {policy: estimate_columns("rate", row.get("win_rate_vs_sft")) for policy, row in measured.items()}
    above = [
        f"{policy.replace('_', ' ')} ({in_words(rate, 'rate')} of {count(rate.get('rate_n'))} posts)"
        for policy, rate in rates.items()
        if _is_above(rate, "rate", 0.5)
    ]
    said = []
    if above:
        said.append(
            f"The gold reward prefers to the SFT model's summaries what needs no model: {', '.join(above)}. Either it"
            " is not fit to be the truth, or the SFT model has not learned to summarize; no arm's win says much."
        )
    for split, found in (run.metrics.get("labels") or {}).items():
        row = estimate_columns("follows", found["gold_agrees"])
        if not _is_above(row, "follows", 0.5):
            said.append(
                f"The labels of the {split} pairs are not shown to follow the gold reward"
                f" ({in_words(row, 'follows')} of {count(row.get('follows_n'))}): it does not tell the samples apart,"
                " or data.preference_noise is too large; there is nothing to learn from them."
            )
    return said


def warnings(run: Run) -> list[str]:
    return [*doubtful_truth(run), *overoptimised(run), *failed_checks(run).values(), *unlike_posts(run)]


def unlike_posts(*runs: Run) -> list[str]:
    """A sentence for each trainer that was rolled out on posts that what learns from pairs does not see."""
    said = (_unlike_posts(run, arm) for run in runs for arm in _ROLLED_OUT if _OF_PAIRS & set(run.arms))
    return [*dict.fromkeys(filter(None, said))]


def _unlike_posts(run: Run, arm: str) -> str:
    posts = _POSTS.get(run.setting(f"config.{arm}.prompts", "pairs"))
    if posts is None or arm not in run.arms:
        return ""
    others = " and ".join(arm_name(other) for other in run.arms if other in _OF_PAIRS)
    return (
        f"Unlike posts: {arm_name(arm)} was rolled out on {posts}, {others} saw those of the pairs alone: what"
        " parts them may be the posts and not the method."
    )


def _overoptimised(run: Run, arm: str) -> str:
    measured = run.metrics["arms"][arm]
    evidence = []
    gains = {kind: estimate_columns("gain", measured.get("gain", {}).get(kind)) for kind in ("gold", "proxy")}
    if _is_above(gains["proxy"], "gain", 0) and _is_below(gains["gold"], "gain", 0):
        proxy, gold = (f"{number(row['gain'], 2)} [{_ends(row, 'gain')}]" for row in (gains["proxy"], gains["gold"]))
        evidence.append(f"over the SFT model its reward model's score rose by {proxy}, the gold reward by {gold}")
    rates = {judge: estimate_columns("rate", rate) for judge, rate in measured.get("win_rate", {}).items()}
    losing = [judge for judge in run.judges if judge in TRUTH and _is_below(rates.get(judge, {}), "rate", 0.5)]
    winning = [judge for judge in run.judges if judge not in TRUTH and _is_above(rates.get(judge, {}), "rate", 0.5)]
    if losing and winning and not _as_before(run, rates, losing[0], winning[0]):
        evidence.append(
            f"against the reference summaries it wins {in_words(rates[winning[0]], 'rate')} by the"
            f" {judge_name(winning[0])} and {in_words(rates[losing[0]], 'rate')} by the {judge_name(losing[0])}"
        )
    if not evidence:
        return ""
    return f"Over-optimised: {arm_name(arm)} pleases what was learned and not the truth; {'; '.join(evidence)}."


def _as_before(run: Run, rates: Mapping[str, Row], truth: str, learned: str) -> bool:
    """Whether the SFT model is judged so already: no better by the truth, and no worse by what was learned."""
    of_start = run.metrics["arms"].get(START, {}).get("win_rate", {})
    before = {judge: estimate_columns("rate", rate) for judge, rate in of_start.items()}
    if not all(is_number(before.get(judge, {}).get("rate")) for judge in (truth, learned)):
        return False
    return before[truth]["rate"] <= rates[truth]["rate"] and before[learned]["rate"] >= rates[learned]["rate"]


def _is_above(row: Row, column: str, line: float) -> bool:
    return is_number(row.get(f"{column}_low")) and row[f"{column}_low"] > line


def _is_below(row: Row, column: str, line: float) -> bool:
    return is_number(row.get(f"{column}_high")) and row[f"{column}_high"] < line


def _ends(row: Row, column: str) -> str:
    return f"{number(row[f'{column}_low'], 2)}, {number(row[f'{column}_high'], 2)}"
