"""The table of arms says of needs, costs and order what the arms' definitions say."""

from bench.arms import (
    ARMS,
    BY_NAME,
    DEFAULT_ARMS,
    REFERENCE,
    STAGES,
    arm_of,
    cost_stages,
    generated,
    graph,
    needed,
    needs_reward,
    upstream,
)


def names(stages) -> list[str]:
    return [stage.name for stage in stages]


def test_a_policy_needs_what_it_is_trained_from_inputs_first():
    assert names(upstream("ppo")) == ["base", "sft", "reward", "ppo"]
    assert names(upstream("dpo")) == ["base", "sft", "reference_logps", "dpo"]


def test_the_stages_of_several_arms_are_each_there_once_in_the_tables_order():
    assert names(needed(["dpo", "ppo"], "judge_reward")) == [
        "base", "sft", "reward", "judge_reward", "ppo", "reference_logps", "dpo",
    ]  # fmt: skip


def test_only_arms_that_go_by_the_reward_model_need_it():
    assert [arm.name for arm in ARMS if needs_reward([arm.name])] == ["best_of_n", "rloo", "iterated_dpo", "ppo"]


def test_what_an_arm_costs_is_what_it_needs_beyond_the_common_start():
    assert {arm.name: cost_stages(arm.name) for arm in ARMS} == {
        "base": (),
        "sft": ("sft",),
        "preferred_ft": ("preferred_ft",),
        "best_of_n": ("reward", "best_of_n"),
        "rloo": ("reward", "rloo"),
        "iterated_dpo": ("reward", "iterated_dpo"),
        "ppo": ("reward", "ppo"),
        "dpo": ("reference_logps", "dpo"),
    }


def test_completions_are_made_from_the_arms_policy_and_measured_against_sft():
    assert generated(BY_NAME["dpo"]).inputs == {"policy": "dpo", "sft": "sft"}


def test_the_default_run_has_both_contenders_and_what_they_start_from():
    assert DEFAULT_ARMS == ("base", "sft", "ppo", "dpo")


def test_the_graph_is_written_a_line_per_stage():
    assert "ppo <- sft, reward" in list(graph()) and "base" in list(graph())


def test_names_colours_and_markers_tell_the_arms_apart():
    for field in ("name", "label", "colour", "marker"):
        assert len({getattr(arm, field) for arm in ARMS}) == len(ARMS)
    assert len({stage.name for stage in STAGES}) == len(STAGES)
    assert all(source in names(STAGES) for stage in STAGES for source in stage.inputs.values())


def test_twelve_arms_made_elsewhere_all_look_different_and_the_tables_keep_their_look():
    strangers = [f"{kind}-{size}" for kind in ("gpt", "sft", "ppo", "ptx") for size in ("xl", "6b", "175b")]
    among = [*strangers, "dpo", REFERENCE]
    looks = {(arm_of(name, among).colour, arm_of(name, among).marker) for name in strangers}

    assert len(looks) == 12
    assert arm_of("dpo", among) is BY_NAME["dpo"]
    assert arm_of("ppo-xl").label == "ppo-xl"
