"""What is known where the reward is: policies that need no model, and how far the labels follow it."""

from bench.report.columns import Column, estimate_column, share_column, table_of
from bench.report.load import Run, estimate_columns, records
from bench.report.page import Block, Text
from bench.report.sections.world import trivial_policy_columns, trivial_policy_table
from bench.report.words import Cell


def section(run: Run) -> list[Block]:
    if run.setting("config.data.kind") != "controlled":
        return []
    blocks: list[Block] = [
        Text(
            "The posts are real, and what is good is decided by a scorer: the known (gold) reward labels the pairs and"
            " judges every arm. What it says of people's and a policy's summaries is its own view, not people's."
        )
    ]
    if rows := records(trivial_policy_table(run)):
        blocks.append(table_of("Policies that need no model", trivial_policy_columns(), rows))
    labels = [
        {"split": split, "pairs": found["pairs"], "posts": found["posts"]}
        | estimate_columns("gold_agrees", found["gold_agrees"])
        | estimate_columns("gold_margin", found["gold_margin"])
        for split, found in (run.metrics.get("labels") or {}).items()
    ]
    if labels:
        columns = [
            *(Column(name, lambda row, name=name: Cell(str(row[name]))) for name in ("split", "pairs", "posts")),
            share_column("gold_agrees", "labels that follow the reward"),
            estimate_column("gold_margin", "distance of a pair's rewards", 3),
        ]
        blocks += [
            Text(
                "Pairs are samples of the SFT model, labelled with noise. A reward model that knew the reward itself"
                " would agree with the labels as often as these follow it."
            ),
            table_of("Labels", columns, labels),
        ]
    return blocks
