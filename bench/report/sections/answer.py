"""What the run found, in a few sentences."""

from collections.abc import Sequence

from bench.arms import REFERENCE
from bench.report.columns import KL
from bench.report.distrust import warnings
from bench.report.load import COMPARED, NOT_TRAINED, Run, records
from bench.report.sections.cost import remeasured_table
from bench.report.sections.head_to_head import head_to_head_table, strength_table
from bench.report.sections.judges import caveats
from bench.report.sections.overoptimisation import checkpoints
from bench.report.sections.results import arm_table
from bench.report.sections.reward_model import reward_model_table
from bench.report.words import Row, arm_name, count, in_words, is_number, judge_name, time_unit


def answer(run: Run) -> list[str]:
    """What the run found, in plain sentences made from its numbers: effect, KL, cost, and what to distrust."""
    lines = []
    pairs = [row for row in records(head_to_head_table(run)) if {row["arm_a"], row["arm_b"]} <= COMPARED]
    if pairs:
        first, *others = [judge for judge in run.judges if judge in {row["judge"] for row in pairs}]
        by_judge = {judge: [row for row in pairs if row["judge"] == judge] for judge in (first, *others)}
        said = "; ".join(head_to_head_in_words(row) for row in by_judge[first])
        lines.append(f"By the {judge_name(first)}: {said}.")
        lines += [_beside(by_judge[first], by_judge[other]) for other in others]
    elif among_all := _of_all_pairs(run):
        lines.append(among_all)
    if chosen := checkpoints(run):
        lines.append(f"Early stopping: {chosen}.")
    table = records(arm_table(run))
    lines += [*_kls(table), *warnings(run), *_one_seed(run), *caveats(run)]
    costs = [row for row in table if row["arm"] not in NOT_TRAINED and is_number(row.get("device_hours"))]
    again = records(remeasured_table(run))
    unit = time_unit([*(row["device_hours"] for row in costs), *(row["again"] for row in again)])
    if costs:
        what_counts = " (RLHF includes its reward model and rollouts)" if "ppo" in run.arms else ""
        times = [f"{arm_name(row['arm'], short=True)} {unit.write(row['device_hours'])} {unit.sign}" for row in costs]
        lines.append(f"Device time beyond the shared SFT model: {', '.join(times)}{what_counts}{_busy(run, costs)}.")
    if again:
        times = [f"{arm_name(row['arm'], short=True)} {unit.write(row['again'])} {unit.sign}" for row in again]
        lines.append(f"Measured again, warm and in turns, it is: {', '.join(times)}.")
    collapsed = [arm_name(row["arm"]) for row in table if row.get("collapsed") is True]
    if collapsed:
        lines.append(f"Collapsed in training: {', '.join(collapsed)}; see Health for where and what to try.")
    verdicts = {row["scorer"]: row["beats_longer_wins"] for row in records(reward_model_table(run))}
    if verdicts.get("reward_model", "") not in ("", "supported"):
        lines.append(
            "Read with care: the reward model that PPO trained against is not shown to beat the rule"
            " “the longer summary wins”."
        )
    return lines or ["This run compares no two arms; its measurements are below."]


def _beside(first: Sequence[Row], other: Sequence[Row]) -> str:
    """Where another judge decides a pair otherwise than the first, or that it decides every pair alike."""
    name = judge_name(other[0]["judge"])
    decisions = {(row["arm_a"], row["arm_b"]): row["first_is_better"] for row in first}
    apart = [row for row in other if row["first_is_better"] != decisions.get((row["arm_a"], row["arm_b"]))]
    if apart:
        return f"Not so the {name}: {'; '.join(head_to_head_in_words(row) for row in apart)}."
    return f"The {name} decides the same ({'; '.join(_rate(row) for row in other)})."


def _rate(row: Row) -> str:
    return f"{arm_name(row['arm_a'], short=True)} over {arm_name(row['arm_b'], short=True)} {in_words(row, 'win_rate')}"


def _kls(table: Sequence[Row]) -> list[str]:
    """How far every trained arm went from the SFT model."""
    known = [row for row in table if row["arm"] not in NOT_TRAINED and is_number(row.get("kl_ref"))]
    parts = [f"{arm_name(row['arm'], short=True)} {' '.join(filter(None, KL.write(row)))}" for row in known]
    told = f"KL to the SFT model, nats per completion: {', '.join(parts)}"
    apart = "; the arms are not compared at equal KL here: experiment=beta_frontier asks that" if len(parts) > 1 else ""
    return [f"{told}{apart}."] if parts else []


def _busy(run: Run, costs: Sequence[Row]) -> str:
    """Where other work kept the machine: the CPU time, which that moves less."""
    spent = {row["arm"]: run.metrics["arms"][row["arm"]]["cost"] for row in costs}
    if not any(cost.get("busy") for cost in spent.values()) or any("cpu_s" not in cost for cost in spent.values()):
        return ""
    hours = {arm: cost["cpu_s"] / 3600 for arm, cost in spent.items()}
    unit = time_unit(hours.values())
    said = ", ".join(f"{arm_name(arm, short=True)} {unit.write(of)} {unit.sign}" for arm, of in hours.items())
    return f", on a machine that was busy with other work; CPU time {said}"


def _one_seed(run: Run) -> list[str]:
    if run.setting("seed") is None or all(arm in NOT_TRAINED for arm in run.arms):
        return []
    return [
        f"One seed ({run.setting('seed')}): the intervals are over posts, and another seed trains other policies. What"
        " holds of the methods takes several seeds (python -m bench -m seed=0,1,2)."
    ]


def _of_all_pairs(run: Run) -> str:
    """Where the question is not that of SFT, PPO and DPO: how many pairs are decided, and which arm stands first."""
    duels = records(head_to_head_table(run))
    if not duels:
        return ""
    judge = next(judge for judge in run.judges if judge in {row["judge"] for row in duels})
    of_judge = [row for row in duels if row["judge"] == judge]
    decided = sum(row["first_is_better"] in ("supported", "contradicted") for row in of_judge)
    strengths = [row for row in records(strength_table(run)) if is_number(row.get(f"strength_{judge}"))]
    strengths = [row for row in strengths if row["arm"] in run.arms and row["arm"] != REFERENCE]
    said = f"By the {judge_name(judge)}, {count(decided)} of {count(len(of_judge))} pairs of arms are decided"
    if not strengths:
        return f"{said}."
    first, *others = sorted(strengths, key=lambda row: -row[f"strength_{judge}"])
    behind = f", then {arm_name(others[0]['arm'])}" if others else ""
    return f"{said}; {arm_name(first['arm'])} stands first over all{behind} (intervals in Head to head)."


def head_to_head_in_words(row: Row) -> str:
    """One pair as a clause: who beats whom where the run decided it (`first_is_better`), else that it did not."""
    first, second = arm_name(row["arm_a"]), arm_name(row["arm_b"])
    if not is_number(row.get("win_rate")):
        return f"of {first} against {second} no verdict could be read"
    posts = f"{in_words(row, 'win_rate')} of {count(row.get('win_rate_n'))} posts"
    if row["first_is_better"] == "supported":
        return f"{first} beats {second} on {posts}"
    if row["first_is_better"] == "contradicted":
        return f"{first} loses to {second}, winning on {posts}"
    return f"{first} against {second} is not decided at this n ({first} wins on {posts})"
