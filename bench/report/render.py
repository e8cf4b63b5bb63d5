"""The report of one finished run."""

import hashlib
import json
from pathlib import Path
from typing import Any

from bench.report import figures
from bench.report.load import (
    NOT_TRAINED,
    Run,
    arm_table,
    claims_table,
    cost_table,
    head_to_head_table,
    load_run,
    records,
    reward_model_table,
    trivial_policy_table,
    world_row,
)
from bench.report.page import (
    Block,
    Details,
    Figures,
    Note,
    Page,
    Sample,
    Section,
    Table,
    Text,
    mapping_table,
    write_page,
)
from bench.report.words import (
    MEASURES,
    NONE,
    Cell,
    Row,
    arm_name,
    count,
    estimate,
    has,
    in_words,
    is_number,
    judge_name,
    number,
    share,
)

DEFAULT_SAMPLES = 5
_TONES = {"supported": "good", "contradicted": "bad"}
_COST_MEASURES = {
    "wall_s": "wall time (s)",
    "device_hours": "device-hours",
    "gpu_hours": "GPU-hours",
    "peak_memory_gib": "peak memory (GiB)",
    "peak_rss_gib": "peak RSS (GiB)",
}
_COST_COUNTS = {
    "tokens_trained": "tokens trained",
    "tokens_generated": "tokens generated",
    "models_resident": "models resident",
}
_SCORER_NAMES = {
    "reward_model": "Reward model (PPO trains against it)",
    "judge_reward_model": "Judge's reward model",
    "implicit_reward": "DPO's implicit reward",
}
_SCORER_RULES = {
    "accuracy": "accuracy",
    "longer_wins": "“longer wins”",
    "title_overlap_wins": "“more of the title wins”",
    "agrees_with_longer": "agrees with “longer”",
}
_WHY_LOGPS_FALL = (
    "Why the log-probability of chosen summaries may fall in DPO: the loss rewards only the distance between"
    " chosen and rejected. Pushing the rejected summary down widens it, and the two share many words, so the"
    " chosen one is often pulled down too, and the probability goes to summaries that are in no pair. A fall"
    " by itself is no failure; judge it by the win rate, the KL and the length above."
)


def render_run(run_dir: Path | str, out_dir: Path | str | None = None) -> Path:
    """Write figures/, report.md and report.html of the run in `run_dir`; returns report.html's path.

    Args:
        out_dir: where to write; the run folder itself by default.

    Raises:
        RunFolderError: the folder holds no finished run of this schema.
        ResourceError: the folder cannot be written.
    """
    run = load_run(run_dir)
    return write_page(run_page(run), Path(out_dir) if out_dir is not None else run.path)


def run_page(run: Run) -> Page:
    """The report of `run` as data. Parts that the run has no numbers for are left out."""
    sections = [
        Section("Results", _results(run)),
        Section("Head to head", _head_to_head(run)),
        Section("Claims", _claims(run)),
        Section("Cost", _cost(run)),
        Section("Training", _training(run)),
        Section("Reward model", _reward_models(run)),
        Section("Built-in world", _world(run)),
        Section("Samples", _samples(run)),
        Section("How it was made", _provenance(run)),
    ]
    experiment = run.setting("experiment", run.path.parent.name)
    run_id = run.setting("run_id", run.path.name)
    return Page(
        title="RLHF against DPO on summarization",
        subtitle=f"experiment {experiment}, run {run_id}, seed {run.setting('seed', NONE)}",
        answer=answer(run),
        sections=[section for section in sections if section.blocks],
    )


def answer(run: Run) -> list[str]:
    """What the run found, in plain sentences made from its numbers: effect, cost, and what to distrust."""
    lines = []
    pairs = [row for row in records(head_to_head_table(run)) if {row["arm_a"], row["arm_b"]} <= {"sft", "ppo", "dpo"}]
    if pairs:
        judge = next(judge for judge in run.judges if judge in {row["judge"] for row in pairs})
        found = [head_to_head_in_words(row) for row in pairs if row["judge"] == judge]
        lines.append(f"By the {judge_name(judge)}: {'; '.join(found)}.")
    costs = [
        f"{arm_name(row['arm'], short=True)} {number(row['device_hours'])}"
        for row in records(arm_table(run))
        if row["arm"] not in NOT_TRAINED and is_number(row.get("device_hours"))
    ]
    if costs:
        what_counts = " (RLHF includes its reward model and rollouts)" if "ppo" in run.arms else ""
        lines.append(f"Device-hours beyond the shared SFT model: {', '.join(costs)}{what_counts}.")
    verdicts = {row["scorer"]: row["beats_longer_wins"] for row in records(reward_model_table(run))}
    if verdicts.get("reward_model", "") not in ("", "supported"):
        lines.append(
            "Read with care: the reward model that PPO trained against is not shown to beat the rule"
            " “the longer summary wins”."
        )
    return lines or ["This run compares no two arms; its measurements are below."]


def head_to_head_in_words(row: Row) -> str:
    """One pair as a clause: who beats whom if the interval excludes one half, else that it is not decided."""
    first, second = arm_name(row["arm_a"]), arm_name(row["arm_b"])
    posts = f"{in_words(row, 'win_rate')} of {count(row.get('win_rate_n'))} posts"
    if row["win_rate_low"] > 0.5:
        return f"{first} beats {second} on {posts}"
    if row["win_rate_high"] < 0.5:
        return f"{first} loses to {second}, winning on {posts}"
    return f"{first} against {second} is not decided at this n ({first} wins on {posts})"


def _results(run: Run) -> list[Block]:
    table = records(arm_table(run))
    win_rates = {f"win_rate_{judge}": f"win rate, {judge_name(judge)}" for judge in run.judges}
    # On a GPU the GPU-hours are what a reader compares; on a CPU they are 0.
    on_gpu = any(row.get("gpu_hours", 0) > 0 for row in table)
    costs = {"gpu_hours": "GPU-hours"} if on_gpu else {"device_hours": "device-hours"}
    costs["peak_memory_gib"] = "peak memory (GiB)"
    measures = {column: title for column, (title, _) in MEASURES.items()}
    titles = win_rates | measures | {"finished": "ended with EOS"} | costs
    present = [column for column in titles if has(table, column)]

    def cell(row: Row, column: str) -> Cell:
        if column in win_rates:
            return share(row, column, with_n=True)
        if column in MEASURES:
            return estimate(row, column, MEASURES[column][1])
        if column == "finished":
            return share(row, column)
        # What an arm costs beyond the SFT model means nothing for an arm that is not trained beyond it.
        return Cell(NONE) if row["arm"] in NOT_TRAINED else estimate(row, column)

    blocks: list[Block] = [
        Table(
            "Arms, with 95 % intervals in brackets",
            ["arm", *(titles[column] for column in present)],
            [[Cell(arm_name(row["arm"], short=True)), *(cell(row, column) for column in present)] for row in table],
            "Win rate: share of held-out prompts on which the arm's summary beats the reference summary, a"
            " tie counting half. KL: policy against the SFT model, nats per completion. Hours and memory: the"
            " stages that the arm needs beyond the SFT model.",
        )
    ]
    judges = [judge for judge in run.judges if has(table, f"win_rate_{judge}")]
    if judges:
        counts = [
            [
                Cell(arm_name(row["arm"], short=True)),
                *(
                    Cell(" / ".join(count(row.get(f"win_rate_{judge}_{what}")) for what in ("n", "ties", "unparsed")))
                    for judge in judges
                ),
            ]
            for row in table
            if any(is_number(row.get(f"win_rate_{judge}")) for judge in judges)
        ]
        blocks += [
            Figures(figures.win_rate_bars(run)),
            Table(
                "Verdicts behind the win rates: n / ties / unparsed (an unparsed verdict leaves n)",
                ["arm", *(judge_name(judge) for judge in judges)],
                counts,
            ),
        ]
    return blocks


def _head_to_head(run: Run) -> list[Block]:
    rows = [
        [
            Cell(f"{arm_name(row['arm_a'], short=True)} against {arm_name(row['arm_b'], short=True)}"),
            Cell(judge_name(row["judge"])),
            share(row, "win_rate"),
            *(Cell(count(row.get(f"win_rate_{what}"))) for what in ("n", "ties", "unparsed")),
            Cell(_p_value(row["p_value"])),
        ]
        for row in records(head_to_head_table(run))
    ]
    if not rows:
        return []
    return [
        Table(
            "Share of prompts on which the first arm beats the second, a tie counting half",
            ["pair", "judge", "win rate", "n", "ties", "unparsed", "p"],
            rows,
            "Each arm stands at the KL that it reached, see above. p: two-sided sign test over the untied"
            " prompts. An interval that contains 50 % decides nothing: “no difference found” is not"
            " “no difference”.",
        )
    ]


def _claims(run: Run) -> list[Block]:
    rows = [
        [
            Cell(str(row["claim"])),
            Cell(row["statement"]),
            Cell(f"{row['measure']} ({row['context']})" if row["context"] else row["measure"]),
            estimate(row, "estimate"),
            Cell(count(row["estimate_n"])),
            Cell(row["verdict"], tone=_TONES.get(row["verdict"], "open")),
        ]
        for row in records(claims_table(run))
    ]
    if not rows:
        return []
    columns = ["claim", "statement", "measure", "estimate", "n", "verdict"]
    return [Table("What is said of DPO, against what this run measured", columns, rows)]


def _cost(run: Run) -> list[Block]:
    blocks: list[Block] = []
    plots = figures.drawn([figures.cost_bars(run), figures.memory_bars(run)])
    if plots:
        blocks += [
            Text(
                "RLHF includes everything it needs: training the reward model, sampling the rollouts, and the"
                " value model. Stages that both arms share are counted once and shown apart."
            ),
            Figures(plots),
        ]
    rows = [
        [
            Cell(row["stage"]),
            Cell(NONE if row["needed_by"] == "shared" else row["needed_by"]),
            *(estimate(row, column) for column in _COST_MEASURES),
            *(Cell(count(row[column])) for column in _COST_COUNTS),
        ]
        for row in records(cost_table(run))
    ]
    if rows:
        blocks.append(
            Table(
                "Cost of each stage",
                ["stage", "only for", *_COST_MEASURES.values(), *_COST_COUNTS.values()],
                rows,
                "Device-hours are wall time times devices. Peak memory is the device allocator's on a GPU and"
                " the process's resident memory on a CPU. A stage taken from the cache carries the cost of"
                " making it.",
            )
        )
    return blocks


def _training(run: Run) -> list[Block]:
    blocks: list[Block] = []
    for stages in (("sft", "reward", "judge_reward"), ("dpo",), ("ppo",)):
        plots = [plot for stage in stages for plot in figures.training_plots(run, stage)]
        if plots:
            blocks.append(Figures(plots))
        if plots and stages == ("dpo",):
            blocks.append(Text(_WHY_LOGPS_FALL))
    return blocks


def _reward_models(run: Run) -> list[Block]:
    table = records(reward_model_table(run))
    if not table:
        return []
    present = [column for column in _SCORER_RULES if has(table, column)]
    rows = [
        [
            Cell(_SCORER_NAMES[row["scorer"]]),
            *(share(row, column) for column in present),
            Cell(count(row.get("accuracy_n"))),
        ]
        for row in table
    ]
    return [
        *(_against_length(row) for row in table if row["beats_longer_wins"] and is_number(row.get("longer_wins"))),
        Table(
            "Which summary of a held-out pair is better: learned scorers beside trivial rules",
            ["scorer", *(_SCORER_RULES[column] for column in present), "n"],
            rows,
        ),
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


def _world(run: Run) -> list[Block]:
    if not run.metrics.get("world"):
        return []
    blocks: list[Block] = [
        Text("The posts of this world are made from known facts, so the true (gold) reward is known.")
    ]
    rows = [
        [Cell(row["policy"].replace("_", " ")), estimate(row, "gold", 2), share(row, "win_rate_vs_sft")]
        for row in records(trivial_policy_table(run))
    ]
    if rows:
        blocks.append(Table("Policies that need no model", ["policy", "gold reward", "wins against SFT"], rows))
    titles = {
        "best_attainable": "best attainable gold reward",
        "headroom": "headroom, (best - SFT) / (best - worst)",
    }
    row = world_row(run)
    facts = {title: estimate(row, column).text for column, title in titles.items() if has([row], column)}
    if facts:
        blocks.append(mapping_table("Room above the SFT model", facts))
    return blocks


def _samples(run: Run) -> list[Block]:
    """The same prompts for every arm, in the order of their ids' hashes: by nobody's taste."""
    completions, prompts = records(run.completions), records(run.prompts)
    # Where several temperatures were sampled, every arm shows its lowest.
    completions.sort(key=lambda row: -row["temperature"])
    coldest = {(row["arm"], row["prompt_id"]): row for row in completions}
    arms = [arm for arm in run.arms if arm != "reference" and any(of_arm == arm for of_arm, _ in coldest)]
    if not arms or not prompts:
        return []
    prompts.sort(key=lambda row: hashlib.sha256(str(row["prompt_id"]).encode("utf-8", "replace")).digest())
    shown = prompts[: run.setting("config.evaluation.samples_in_report", DEFAULT_SAMPLES)]
    temperatures = sorted({row["temperature"] for (arm, _), row in coldest.items() if arm in arms})
    samples = [
        Sample(
            prompt_id=str(row["prompt_id"]),
            prompt=row["prompt"],
            summaries=[
                ("Reference summary", row["reference"]),
                *(
                    (arm_name(arm, short=True), coldest[arm, row["prompt_id"]]["completion"])
                    for arm in arms
                    if (arm, row["prompt_id"]) in coldest
                ),
            ],
        )
        for row in shown
    ]
    if not samples:
        return []
    return [
        Text(
            f"The first {len(samples)} of {count(len(prompts))} held-out prompts by the hashes of their ids:"
            " not picked by hand, and the same prompts for every arm."
            f" Sampled at temperature {', '.join(f'{temperature:g}' for temperature in temperatures)}."
        ),
        *samples,
    ]


def _provenance(run: Run) -> list[Block]:
    get = run.setting
    commit, device = get("git.commit"), get("device", {})
    reused = [stage for stage, made in get("stages", {}).items() if made.get("reused")]
    made = mapping_table(
        "What made these numbers",
        {
            "command": get("command"),
            "config hash": get("config_hash"),
            "commit": f"{commit} with uncommitted changes" if commit and get("git.dirty") else commit,
            "seed": get("seed"),
            "device": " x ".join(str(device[key]) for key in ("count", "name") if key in device) or None,
            "data": ", ".join(f"{key} {value}" for key, value in get("data.source", {}).items()) or None,
            "data hash": get("data.hash"),
            "stages from cache": ", ".join(reused) or "none",
            "started": get("started"),
            "finished": get("finished"),
            "versions": ", ".join(f"{name} {of}" for name, of in sorted(get("versions", {}).items())) or None,
        },
    )
    blocks: list[Block] = [made, Details("The whole configuration", _json(get("config", {})))]
    if run.metrics.get("data"):
        blocks.append(Details("Data statistics", _json(run.metrics["data"])))
    return blocks


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


def _p_value(value: float) -> str:
    if not is_number(value):
        return NONE
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
