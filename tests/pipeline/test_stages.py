"""What each stage depends on: a change of the config makes anew what it can change, and nothing else."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.arms import BY_NAME, STAGES, generated
from bench.config import RunConfig
from bench.cost import StageCost
from bench.data import load
from bench.data.evaluation_sets import EvalSetConfig
from bench.pipeline.cache import Build, FinishedStage, StageCache
from bench.pipeline.engine import Engine
from bench.pipeline.runner import prepare_data
from bench.provenance import stable_hash
from bench.records import ComparisonData, Demonstration, PreferencePair
from bench.stages.context import rollout_posts

ARMS = tuple(BY_NAME)
EVERYTHING = {
    "base", "sft", "preferred_ft", "reward", "judge_reward", "best_of_n", "rloo", "iterated_dpo", "ppo",
    "reference_logps", "dpo",
    *(f"generate_{arm}" for arm in ARMS),
}  # fmt: skip
AFTER_SFT = EVERYTHING - {"base"}  # generate_base too: its KL is measured against the SFT model
ITERATED = {"iterated_dpo", "generate_iterated_dpo"}
BY_REWARD = {"best_of_n", "generate_best_of_n", "rloo", "generate_rloo", "ppo", "generate_ppo"} | ITERATED
BY_PAIRS = {"preferred_ft", "generate_preferred_ft", "dpo", "generate_dpo"}
GENERATED = {f"generate_{arm}" for arm in ARMS}


class KeysOnly(StageCache):
    """Names stages by their inputs and builds none."""

    def run(self, name: str, code: str, inputs: Mapping[str, Any], build: Build, **_: Any) -> FinishedStage:
        return FinishedStage(name, stable_hash([name, inputs]), code, Path(), StageCost(), [], reused=False)


def keys(config: RunConfig, tmp_path: Path) -> dict[str, str]:
    data, tokenizer, _ = prepare_data(config, tmp_path)
    engine = Engine(config, data, tokenizer, tmp_path)
    engine.cache = KeysOnly(tmp_path)
    of_the_world = [stage for stage in STAGES if stage.name != "label"]
    for stage in (*of_the_world, *map(generated, BY_NAME.values())):
        engine.finished(stage)
    return {name: stage.key for name, stage in engine.done.items()}


@pytest.mark.parametrize(
    ("key", "value", "remade"),
    [
        ("seed", 1, EVERYTHING),
        ("name", "other", set()),
        ("arms", ("sft", "dpo"), set()),
        ("results_dir", "elsewhere", set()),
        ("label", "dpo.beta=1", set()),
        ("checkpoint_every_s", 0.0, set()),
        ("model.hidden_size", 64, EVERYTHING),
        ("model.precision", "bf16", EVERYTHING),
        ("model.attn_implementation", "eager", EVERYTHING),
        ("sft.learning_rate", 2e-2, AFTER_SFT),
        ("budget.sft_epochs", 2.0, AFTER_SFT),
        ("budget.demonstrations", 8, EVERYTHING),  # the tiny model's tokenizer is trained on them
        ("reward.learning_rate", 2e-2, {"reward", "judge_reward"} | BY_REWARD),
        ("budget.reward_epochs", 2.0, {"reward", "judge_reward"} | BY_REWARD),
        ("reward.shift_rows", 2, {"reward", "judge_reward"} | BY_REWARD),
        ("budget.judge_pairs", 4, {"judge_reward"}),
        ("budget.pairs", 4, {"reward", "reference_logps"} | BY_REWARD | BY_PAIRS),
        ("dpo.beta", 0.5, {"dpo", "generate_dpo"} | ITERATED),
        ("iterated_dpo.rounds", 1, ITERATED),
        ("budget.dpo_epochs", 2.0, BY_PAIRS),
        ("rloo.beta", 0.5, {"rloo", "generate_rloo"}),
        ("best_of_n.n", 2, {"best_of_n", "generate_best_of_n"}),
        ("ppo.beta", 0.5, {"ppo", "generate_ppo"}),
        ("ppo.prompts", "demonstrations", {"ppo", "generate_ppo"}),
        ("rloo.prompts", "both", {"rloo", "generate_rloo"}),
        ("budget.ppo_episodes", 8, {"rloo", "generate_rloo", "ppo", "generate_ppo"} | ITERATED),
        ("budget.max_completion_tokens", 4, {"ppo", "rloo", "iterated_dpo", "best_of_n"} | GENERATED),
        ("sampling.temperature", 1.0, {"best_of_n"} | GENERATED),
        ("ppo.temperature", 1.0, {"ppo", "generate_ppo"}),
        ("rloo.temperature", 1.0, {"rloo", "generate_rloo"}),
        ("evaluation.temperatures", (0.0,), set()),
        ("sets", {"validation": EvalSetConfig(split="validation")}, set()),
        ("budget.eval_prompts", 2, {"best_of_n"} | GENERATED),
        ("budget.validation_pairs", 4, set()),
        ("evaluation.bootstrap_resamples", 200, set()),
    ],
)
def test_a_change_remakes_what_it_can_change(
    key: str, value: object, remade: set[str], make_config: Callable[..., RunConfig], tmp_path: Path
):
    config = make_config()
    group, _, field = key.rpartition(".")
    changed = replace(config, **{group: replace(getattr(config, group), **{field: value})} if group else {key: value})

    before, after = keys(config, tmp_path), keys(changed, tmp_path)

    assert before.keys() == after.keys() == EVERYTHING
    assert {name for name in EVERYTHING if before[name] != after[name]} == remade


def test_rollouts_may_be_on_each_post_once_of_pairs_demonstrations_or_both():
    pairs = [PreferencePair(f"p{i}", post, "a", "b") for i, post in enumerate(("two", "six", "six"))]
    data = ComparisonData(
        demonstrations={"train": [Demonstration("d1", "one", "x"), Demonstration("d2", "two", "x")]},
        preferences={"train": pairs},
        eval_prompts=[],
        source={},
    )

    assert rollout_posts("pairs", data) == {"two": "p0", "six": "p2"}
    assert rollout_posts("demonstrations", data) == {"one": "d1", "two": "d2"}
    assert rollout_posts("both", data) == {"two": "d2", "six": "p2", "one": "d1"}


def test_the_worlds_gold_reward_knows_the_posts_of_the_demonstrations(make_config: Callable[..., RunConfig]):
    data = load(make_config().data, seed=0)
    first = data.demonstrations["train"][0]

    assert data.gold is not None
    good, bad = data.gold([(first.id, first.completion), (first.id, "nothing of it")])
    assert good > bad


def test_both_arms_see_the_same_posts_and_the_judge_sees_others(make_config: Callable[..., RunConfig]):
    data = load(make_config().data, seed=0)

    arms, judge = ({pair.prompt for pair in data.preferences[split]} for split in ("train", "judge"))
    assert arms and judge and not arms & judge
