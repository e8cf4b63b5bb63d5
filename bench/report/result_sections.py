"""What a run found, as blocks of its report: wins, length, pairs, claims, and the instruments that measured them."""

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
from bench.report.evaluator_tables import (
    DETECTORS,
    best_of_n_table,
    degeneration_table,
    judge_table,
    length_bin_table,
    length_table,
    paired_wins_table,
    strength_table,
)
from bench.report.load import (
    Run,
    arm_table,
    claims_table,
    head_to_head_table,
    records,
    reward_model_table,
    trivial_policy_table,
    world_row,
)
from bench.report.page import Block, Figures, Note, Table, Text, mapping_table
from bench.report.plot import drawn
from bench.report.words import (
    Cell,
    Row,
    count,
    estimate,
    has,
    in_words,
    is_number,
    judge_name,
    number,
    ratio_bin,
    share,
)

_SCORER_NAMES = {
    "reward_model": "Reward model (PPO trains against it)",
    "judge_reward_model": "Judge's reward model",
    "implicit_reward": "DPO's implicit reward",
}


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
