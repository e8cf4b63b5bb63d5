"""What a run found, as blocks of its report: the arms' wins, at equal length, pair by pair, and the claims."""

from bench.report import evaluator_figures, figures
from bench.report.columns import (
    ARM,
    JUDGE,
    MEASURES,
    PAIR,
    Column,
    cost_column,
    count_column,
    estimate_column,
    p_column,
    points_column,
    share_column,
    table_of,
    text_column,
    verdict,
    win_rate_columns,
)
from bench.report.evaluator_tables import length_bin_table, length_table, paired_wins_table, strength_table
from bench.report.load import Run, arm_table, claims_table, head_to_head_table, records
from bench.report.page import Block, Figures, Table, Text
from bench.report.words import Cell, Row, count, estimate, has, is_number, judge_name, number, ratio_bin, share


def results(run: Run) -> list[Block]:
    table = records(arm_table(run))
    # On a GPU the GPU-hours are what a reader compares; on a CPU they are 0.
    on_gpu = any(row.get("gpu_hours", 0) > 0 for row in table)
    columns = [
        ARM,
        *win_rate_columns(run.judges, with_n=True),
        *MEASURES,
        share_column("finished", "ended with EOS"),
        cost_column("gpu_hours", "GPU-hours") if on_gpu else cost_column("device_hours", "device-hours"),
        cost_column("peak_memory_gib", "peak memory (GiB)"),
    ]
    note = (
        "Win rate: share of held-out prompts on which the arm's summary beats the reference summary, a tie counting"
        " half. KL: policy against the SFT model, nats per completion. Hours and memory: the stages that the arm"
        " needs beyond the SFT model."
    )
    if any(row.get("kl_ref_estimator") == "bound" for row in table):
        note += " The KL of the best of n is an upper bound, log n - (n - 1)/n: no policy with log-probs wrote it."
    blocks: list[Block] = [table_of("Arms, with 95 % intervals in brackets", columns, table, note)]
    judges = [judge for judge in run.judges if has(table, f"win_rate_{judge}")]
    if judges:
        judged = [row for row in table if any(is_number(row.get(f"win_rate_{judge}")) for judge in judges)]
        blocks += [
            Figures(figures.win_rate_bars(run)),
            table_of(
                "Verdicts behind the win rates: n / ties / unparsed (an unparsed verdict leaves n)",
                [ARM, *(_counts_column(judge) for judge in judges)],
                judged,
            ),
        ]
    return blocks


def length(run: Run) -> list[Block]:
    """Win rates with length taken out, and by length."""
    controlled = records(length_table(run))
    if not controlled:
        return []
    bins = records(length_bin_table(run))
    by_arm: dict[tuple[str, str], dict[str, Row]] = {}
    for row in bins:
        by_arm.setdefault((row["arm"], row["judge"]), {})[ratio_bin(row)] = row
    names = list(dict.fromkeys(ratio_bin(row) for row in bins))
    blocks: list[Block] = [
        Text(
            "Judges tend to prefer the longer summary, and arms differ in length. At equal length: the win rate that a"
            " logistic regression on the difference in length predicts where both summaries are equally long (Dubois"
            " et al. 2024). Where it lies far from the win rate, length did part of the winning; it takes out length"
            " itself, and not what goes with it."
        ),
        table_of(
            "Win rate against the reference summary, as judged and at equal length",
            [
                ARM,
                JUDGE,
                share_column("win_rate", "win rate"),
                share_column("equal_length", "at equal length"),
                count_column("equal_length_n", "n"),
                estimate_column("length_effect", "length effect (log-odds)", 2),
                text_column("reason", "why there is no number"),
            ],
            controlled,
            "Length effect: above 0, longer summaries win more often.",
        ),
    ]
    if bins:
        blocks += [
            Figures(evaluator_figures.win_rate_by_length(run)),
            Table(
                "Win rate by the length of the arm's summary over that of the reference summary",
                ["arm", "judge", *names],
                [
                    [
                        ARM.write({"arm": arm}),
                        JUDGE.write({"judge": judge}),
                        *(share(of_arm[name], "win_rate", with_n=True) for name in names),
                    ]
                    for (arm, judge), of_arm in by_arm.items()
                ],
            ),
        ]
    return blocks


def head_to_head(run: Run) -> list[Block]:
    duels = records(head_to_head_table(run))
    if not duels:
        return []
    note = (
        "Each arm stands at the KL that it reached, see above. p: two-sided sign test over the untied prompts."
        " An interval that contains 50 % decides nothing: “no difference found” is not “no difference”."
    )
    if has(duels, "p_holm"):
        note += (
            " Holm: p adjusted for all pairs under one judge. Prompts needed: on how many a win rate like this one"
            " would be told from 50 % with 80 % power, a plan for another run and no finding of this one."
        )
    blocks: list[Block] = [
        table_of(
            "Share of prompts on which the first arm beats the second, a tie counting half",
            [
                PAIR,
                JUDGE,
                share_column("win_rate", "win rate"),
                share_column("equal_length", "at equal length"),
                Column("n", lambda row: Cell(count(row.get("win_rate_n")))),
                Column("ties", lambda row: Cell(count(row.get("win_rate_ties")))),
                Column("unparsed", lambda row: Cell(count(row.get("win_rate_unparsed")))),
                p_column("p_value", "p"),
                p_column("p_holm", "p (Holm)"),
                count_column("prompts_needed", "prompts needed"),
            ],
            duels,
            note,
        )
    ]
    blocks += _power(run)
    paired = records(paired_wins_table(run))
    if paired:
        blocks.append(
            table_of(
                "The same pairs by way of the reference summary: prompts on which each arm beats it",
                [
                    PAIR,
                    JUDGE,
                    count_column("both", "both"),
                    count_column("only_a", "only the first"),
                    count_column("only_b", "only the second"),
                    count_column("neither", "neither"),
                    points_column("difference", "win rate of the first minus the second's (points)"),
                    p_column("p_value", "p (McNemar)"),
                    p_column("p_holm", "p (Holm)"),
                ],
                paired,
                "A tie is no win in the counts and half a win in the difference. McNemar's exact test compares “only"
                " the first” with “only the second”.",
            )
        )
    strengths = records(strength_table(run))
    if strengths:
        judges = [judge for judge in run.judges if has(strengths, f"strength_{judge}")]
        blocks += [
            table_of(
                "All arms on one scale: Bradley-Terry strength in nats, the reference summary at 0",
                [ARM, *(estimate_column(f"strength_{judge}", judge_name(judge), 2) for judge in judges)],
                strengths,
                "From every pair at once, over"
                f" {count(max(row.get(f'strength_{judges[0]}_n', 0) for row in strengths))} prompts. Between two arms"
                " d nats apart, the stronger wins on 1 / (1 + exp(-d)) of the prompts: 0.5 nats are 62 %, 1 is 73 %.",
            ),
            Figures(evaluator_figures.strength_bars(run)),
        ]
    return blocks


def claims(run: Run) -> list[Block]:
    rows = records(claims_table(run))
    if not rows:
        return []
    columns = [
        Column("claim", lambda row: Cell(str(row["claim"]))),
        Column("statement", lambda row: Cell(row["statement"])),
        Column(
            "measure", lambda row: Cell(f"{row['measure']} ({row['context']})" if row["context"] else row["measure"])
        ),
        Column("estimate", lambda row: estimate(row, "estimate")),
        Column("n", lambda row: Cell(count(row["estimate_n"]))),
        Column("verdict", lambda row: verdict(row["verdict"])),
    ]
    return [table_of("What is said of DPO, against what this run measured", columns, rows)]


def _counts_column(judge: str) -> Column:
    return Column(
        judge_name(judge),
        lambda row: Cell(" / ".join(count(row.get(f"win_rate_{judge}_{what}")) for what in ("n", "ties", "unparsed"))),
    )


def _power(run: Run) -> list[Block]:
    """What this many prompts can show, said beside what they did."""
    power = run.metrics.get("power")
    if not power:
        return []
    alone, between = (
        "none, however large" if power[gap] is None else f"{number(100 * power[gap], 1)} points"
        for gap in ("head_to_head", "between_arms")
    )
    return [
        Text(
            f"What {count(power['n'])} prompts can show: the smallest difference found with"
            f" {number(100 * power['power'], 0)} % power at the {number(100 * power['level'], 0)} % level is, head to"
            f" head without ties, {alone} from 50 %, and between two arms' win rates on prompts of their own"
            f" {between}. A smaller one is likely to end as not decided at this n."
        )
    ]
