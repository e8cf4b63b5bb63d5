"""What findings are read with, as blocks of a report: best of n, degeneration, judges, reward models, the world."""

from bench.report import evaluator_figures
from bench.report.columns import (
    ARM,
    JUDGE,
    MEASURES,
    Column,
    count_column,
    estimate_column,
    share_column,
    table_of,
    win_rate_columns,
)
from bench.report.evaluator_tables import DETECTORS, best_of_n_table, degeneration_table, judge_table
from bench.report.load import Run, records, reward_model_table, trivial_policy_table, world_row
from bench.report.page import Block, Figures, Note, Text, mapping_table
from bench.report.plot import drawn
from bench.report.words import Cell, Row, count, estimate, has, in_words, is_number

_SCORER_NAMES = {
    "reward_model": "Reward model (PPO trains against it)",
    "judge_reward_model": "Judge's reward model",
    "implicit_reward": "DPO's implicit reward",
}


def best_of_n(run: Run) -> list[Block]:
    rows = records(best_of_n_table(run))
    if not rows:
        return []
    return [
        Text(
            "The SFT model's best completion by the reward model, for every n from one set of samples. It is what the"
            " reward model can do without training a policy, at the price of n samples per summary."
        ),
        Figures(drawn([evaluator_figures.best_of_n_curve(run)])),
        table_of(
            "Best of n",
            [
                Column("n", lambda row: Cell(str(row["n"]))),
                *win_rate_columns(run.judges, with_n=True),
                *MEASURES,
            ],
            rows,
            "The proxy reward is what is chosen by: where it rises and the win rate does not, it is being exploited.",
        ),
    ]


def degeneration(run: Run) -> list[Block]:
    rows = records(degeneration_table(run))
    if not rows:
        return []
    return [
        table_of(
            "Completions that are no summary, by their text alone: share of each arm's",
            [
                ARM,
                *(share_column(name, title) for name, title in DETECTORS.items()),
                count_column("any_n", "n"),
            ],
            rows,
            "ROUGE can rise by copying, and a reward on loops. The reference summaries stand beside the arms because"
            " people copy and repeat a little too.",
        )
    ]


def judges(run: Run) -> list[Block]:
    rows = records(judge_table(run))
    if not rows:
        return []
    blocks: list[Block] = [
        table_of(
            "What each judge prefers beside the better summary, over all its verdicts of this run",
            [
                JUDGE,
                share_column("position_bias", "chose the one shown first", with_n=True),
                share_column("length_bias", "chose the longer one", with_n=True),
                share_column("flip_rate", "changed its mind with the order"),
                count_column("decided", "decided"),
                count_column("ties", "ties"),
                count_column("unparsed", "unparsed"),
            ],
            rows,
            "Shares of decided verdicts, with intervals over prompts (n). 50 % shown first is no preference. Where the"
            " longer summary is the better one, an unbiased judge chooses it more often than not.",
        )
    ]
    asked = [row for row in rows if is_number(row.get("requests"))]
    if asked:
        used = ("requests", "retries", "cached", "prompt_tokens", "completion_tokens")
        blocks.append(
            table_of(
                "What the judges that are asked have used up in this run",
                [JUDGE, *(count_column(name, name.replace("_", " ")) for name in used)],
                asked,
                "Cached: answers that an earlier run had bought.",
            )
        )
    return blocks


def reward_models(run: Run) -> list[Block]:
    rows = records(reward_model_table(run))
    if not rows:
        return []
    return [
        *(_against_length(row) for row in rows if row["beats_longer_wins"] and is_number(row.get("longer_wins"))),
        table_of(
            "Which summary of a held-out pair is better: learned scorers beside trivial rules",
            [
                Column("scorer", lambda row: Cell(_SCORER_NAMES[row["scorer"]])),
                share_column("accuracy", "accuracy"),
                share_column("longer_wins", "“longer wins”"),
                share_column("title_overlap_wins", "“more of the title wins”"),
                share_column("agrees_with_longer", "agrees with “longer”"),
                Column("n", lambda row: Cell(count(row.get("accuracy_n")))),
            ],
            rows,
        ),
    ]


def world(run: Run) -> list[Block]:
    if not run.metrics.get("world"):
        return []
    blocks: list[Block] = [
        Text("The posts of this world are made from known facts, so the true (gold) reward is known.")
    ]
    rows = records(trivial_policy_table(run))
    if rows:
        columns = [
            Column("policy", lambda row: Cell(row["policy"].replace("_", " "))),
            estimate_column("gold", "gold reward", 2),
            share_column("win_rate_vs_sft", "wins against SFT"),
        ]
        blocks.append(table_of("Policies that need no model", columns, rows))
    titles = {
        "best_attainable": "best attainable gold reward",
        "headroom": "headroom, (best - SFT) / (best - worst)",
    }
    row = world_row(run)
    facts = {title: estimate(row, column).text for column, title in titles.items() if has([row], column)}
    if facts:
        blocks.append(mapping_table("Room above the SFT model", facts))
    return blocks


def _against_length(row: Row) -> Block:
    """Whether a reward model learned more than length; where that is not shown, a note."""
    name = "The reward model" if row["scorer"] == "reward_model" else "The judge's reward model"
    numbers = (
        f"it is right on {in_words(row, 'accuracy')} of {count(row.get('accuracy_n'))} held-out pairs,"
        f" the rule “the longer summary wins” on {in_words(row, 'longer_wins')}"
    )
    if row["beats_longer_wins"] == "supported":
        return Text(f"{name} beats “longer wins”: {numbers}.")
    if row["beats_longer_wins"] == "contradicted":
        return Note(f"{name} is worse than “longer wins”: {numbers}. What it rewards is no better than length.")
    return Note(
        f"{name} does not beat “longer wins” as far as these pairs can show: {numbers}."
        " A gain in its score may be a gain in length."
    )
