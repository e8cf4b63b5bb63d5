"""The arms and the stages that make them: two plain tables, from which everything else about arms follows.

What an arm needs, what its cost sums, the order of tables, colours, legends, `--help` and the README's table derive
from here. To add an arm, add its row and the row of its stage, and write the stage's file (`bench/stages`).
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Stage:
    """One step of the graph: what it is built by, and from which other stages.

    Attributes:
        name: of its folder in the cache, its training log and its row in the cost tables.
        module: where `needs` and `build` are (see `bench.stages.context`).
        inputs: what `build` calls its input -> the stage whose folder it is handed. These are the edges of the graph.
        reads: the data that it reads: splits by their name in the data folder's layout, or "prompts".
        settings: the config group of the trainer's settings; None for stages that train nothing.
        watched: its trainer takes samples on the way, where such are wanted.
        by_all: several processes build it together; otherwise the first one does while the others wait.
        policy: of a policy that was trained elsewhere, its name in the config, which `needs` is told.
    """

    name: str
    module: str
    inputs: Mapping[str, str] = field(default_factory=dict)
    reads: tuple[str, ...] = ()
    settings: str | None = None
    watched: bool = False
    by_all: bool = False
    policy: str | None = None


@dataclass(frozen=True)
class Arm:
    """One contender.

    Attributes:
        label: as tables and legends write it; `in_words` as a sentence does.
        what: one sentence for `--help` and the README.
        colour, marker: of every figure. Okabe and Ito's colours, three of them darker: every one has a contrast of 3:1
            and more on white and on the dark page. Where a colour blindness brings two close, the markers differ.
        stage: where its policy, or for best of n its candidates, come from.
        sampled_by: the module that makes its completions from that.
        default: whether a run has it unless `arms` says otherwise.
    """

    name: str
    label: str
    in_words: str
    what: str
    colour: str
    marker: str
    stage: str
    sampled_by: str = "bench.stages.generate"
    default: bool = False


_SFT = {"sft": "sft"}
_SFT_AND_REWARD = {"sft": "sft", "reward": "reward"}

STAGES = (
    Stage("base", "bench.stages.base", reads=("demonstrations/train",)),
    Stage("sft", "bench.stages.sft", {"base": "base"}, ("demonstrations/train",), "sft", by_all=True),
    Stage("label", "bench.stages.label", _SFT, ("preferences/train", "preferences/validation"), by_all=True),
    Stage("preferred_ft", "bench.stages.preferred_ft", _SFT, ("preferences/train",), "sft", by_all=True),
    Stage("reward", "bench.stages.reward", _SFT, ("preferences/train",), "reward", by_all=True),
    Stage("judge_reward", "bench.stages.judge_reward", _SFT, ("preferences/judge",), "reward", by_all=True),
    Stage("best_of_n", "bench.stages.best_of_n", _SFT_AND_REWARD, ("prompts",), by_all=True),
    Stage("rloo", "bench.stages.rloo", _SFT_AND_REWARD, ("preferences/train",), "rloo", watched=True, by_all=True),
    Stage("ppo", "bench.stages.ppo", _SFT_AND_REWARD, ("preferences/train",), "ppo", watched=True, by_all=True),
    Stage("iterated_dpo", "bench.stages.iterated_dpo", _SFT_AND_REWARD, ("preferences/train",), "dpo", by_all=True),
    Stage("reference_logps", "bench.stages.reference_logps", _SFT, ("preferences/train",), by_all=True),
    Stage(
        "dpo",
        "bench.stages.dpo",
        {"sft": "sft", "reference_logps": "reference_logps"},
        ("preferences/train",),
        "dpo",
        watched=True,
        by_all=True,
    ),
)

ARMS = (
    Arm("base", "Base", "the base model", "the model before any training", "#747474", "^", stage="base", default=True),
    Arm(
        "sft",
        "SFT",
        "the SFT model",
        "fine-tuned on the demonstrations; where every other arm starts",
        "#009E73",
        "D",
        stage="sft",
        default=True,
    ),
    Arm(
        "preferred_ft",
        "Preferred-FT",
        "Preferred-FT",
        "the SFT model trained further on the chosen summaries",
        "#CC79A7",
        "v",
        stage="preferred_ft",
    ),
    Arm(
        "best_of_n",
        "Best of n",
        "best of n",
        "the best of n (up to 128) SFT samples by the reward model",
        "#996145",
        "P",
        stage="best_of_n",
        sampled_by="bench.stages.pick_best",
    ),
    Arm(
        "rloo",
        "RLOO",
        "RLOO",
        "RLOO on the same reward model (Ahmadian et al. 2024), TRL's trainer",
        "#3596CC",
        "X",
        stage="rloo",
    ),
    Arm(
        "iterated_dpo",
        "Iterated DPO",
        "iterated DPO",
        "DPO in rounds on its own samples, labelled by the reward model (Dong et al. 2024)",
        "#8064C8",
        "p",
        stage="iterated_dpo",
    ),
    Arm(
        "ppo",
        "RLHF (PPO)",
        "RLHF (PPO)",
        "RLHF: reward model on the pairs, then PPO with a value model of its own (Huang et al. 2024)",
        "#D55E00",
        "s",
        stage="ppo",
        default=True,
    ),
    Arm(
        "dpo",
        "DPO",
        "DPO",
        "DPO on the same pairs (Rafailov et al. 2023); `dpo.loss_type` names other losses",
        "#0072B2",
        "o",
        stage="dpo",
        default=True,
    ),
)
"""In the order of every table."""

REFERENCE = "reference"
"""The human summaries, scored like an arm; no stage makes them."""
REFERENCE_COLOUR = "#333333"
_SPARE_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#996145", "#3596CC", "#747474")
_SPARE_MARKERS = ("o", "s", "D", "^", "v", "P", "X", "<", ">")
"""Of arms that are in no row. Their numbers have no common divisor: 63 arms in a row look different."""

BY_NAME: Mapping[str, Arm] = {arm.name: arm for arm in ARMS}
STAGE_BY_NAME: Mapping[str, Stage] = {stage.name: stage for stage in STAGES}
DEFAULT_ARMS = tuple(arm.name for arm in ARMS if arm.default)
START = "sft"
"""The arm where every other one starts: its cost is shared, and so counted for no other arm."""


_ELSEWHERE = "policy_"
_BEST = re.compile("best_(?P<training>.+?)_by_(?P<judge>.+)")


def arm_of(name: str, among: Iterable[str] = ()) -> Arm:
    """The arm's row, or a spare one for an arm that was made elsewhere: called by its name, no training here makes it.

    Args:
        among: the arms that it is shown with, which then all look different. Without them its name alone says how it
            looks, and two names may look alike.
    """
    if name in BY_NAME:
        return BY_NAME[name]
    strangers = sorted({other for other in among if other not in BY_NAME and other != REFERENCE})
    place = strangers.index(name) if name in strangers else sum(name.encode())
    colour = _SPARE_COLOURS[place % len(_SPARE_COLOURS)]
    marker = _SPARE_MARKERS[place % len(_SPARE_MARKERS)]
    return Arm(name, name, name, "made elsewhere", colour, marker, stage=f"{_ELSEWHERE}{name}")


def stage_of(name: str) -> Stage:
    """The stage of the table, or that which takes up a policy trained elsewhere or chooses a checkpoint."""
    if name in STAGE_BY_NAME:
        return STAGE_BY_NAME[name]
    if best := _BEST.fullmatch(name):
        scorer = {"judge_reward": "judge_reward"} if best["judge"] == "reward_model" else {}
        return Stage(name, "bench.stages.best_checkpoint", {"training": best["training"], **_SFT, **scorer})
    return Stage(name, "bench.stages.policy", {"base": "base"}, policy=name.removeprefix(_ELSEWHERE))


def policy_stage(arm: Arm, keep_best: str | None = None) -> str:
    """The stage that leaves the arm's policy: its training, or what chooses among the moments of a watched one.

    Args:
        keep_best: the judge that chooses (`samples_in_training.keep_best`).
    """
    chosen = keep_best is not None and stage_of(arm.stage).watched
    return f"best_{arm.stage}_by_{keep_best}" if chosen else arm.stage


def chooses(stage: str) -> bool:
    """Whether the stage chooses among the moments of a training."""
    return "training" in stage_of(stage).inputs


def chosen(arms: Iterable[str], keep_best: str | None) -> tuple[Stage, ...]:
    """The stages that choose among the moments of the arms' trainings."""
    names = [policy_stage(arm_of(arm), keep_best) for arm in arms]
    return tuple(stage_of(name) for name in names if chooses(name))


def generated(arm: Arm, keep_best: str | None = None) -> Stage:
    """The stage of an arm's completions of the evaluation prompts."""
    inputs = {"policy": policy_stage(arm, keep_best), "sft": START}
    return Stage(f"generate_{arm.name}", arm.sampled_by, inputs, ("prompts",), by_all=True)


def upstream(stage: str) -> tuple[Stage, ...]:
    """The stage and all that it is built from, inputs first."""
    found: dict[str, Stage] = {}

    def visit(name: str) -> None:
        stage = stage_of(name)
        for source in stage.inputs.values():
            visit(source)
        found.setdefault(name, stage)

    visit(stage)
    return tuple(found.values())


def needed(arms: Iterable[str], *others: str) -> tuple[Stage, ...]:
    """The stages that some arms, and `others` by name, are made from, in the table's order, policies trained elsewhere
    last."""
    starts = (*(arm_of(arm).stage for arm in arms), *others)
    stages = {stage.name: stage for start in starts for stage in upstream(start)}
    elsewhere = [stage for stage in stages.values() if stage.policy is not None]
    return (*(stage for stage in STAGES if stage.name in stages), *elsewhere)


def needs_reward(arms: Iterable[str]) -> bool:
    """Whether any of the arms goes by the reward model, the proxy of the truth."""
    return any(stage.name == "reward" for stage in needed(arms))


def cost_stages(arm: str) -> tuple[str, ...]:
    """The stages whose cost is the arm's. What every arm starts from counts for the SFT arm alone, base for none.

    None of a policy that was trained elsewhere.
    """
    if arm not in BY_NAME:
        return ()
    shared = {stage.name for stage in upstream(BY_NAME[START].stage)}
    if arm == START:
        return (BY_NAME[START].stage,)
    return tuple(stage.name for stage in upstream(BY_NAME[arm].stage) if stage.name not in shared)


def graph() -> Iterator[str]:
    """The graph of stages, a line each: `ppo <- sft, reward`."""
    for stage in STAGES:
        yield f"{stage.name} <- {', '.join(stage.inputs.values())}" if stage.inputs else stage.name
