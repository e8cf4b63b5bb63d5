"""`--help` is made from the config files."""

from collections.abc import Callable

import pytest

from bench.cli.conf_dir import conf_dir


def test_the_overview_names_every_group_option_and_top_level_key(command: Callable):
    page = command("--help").stdout

    for path in conf_dir().glob("*/*.yaml"):
        if path.parent.name == "accelerate":
            continue  # the launcher's own files
        group = page[page.index(f"\n  {path.parent.name}\n") :]
        assert f"\n    {path.stem} " in group
    assert (conf_dir() / "config.yaml").read_text(encoding="utf-8").replace("\n", "\n  ").rstrip() in page


def test_options_are_described_by_their_first_sentence(command: Callable):
    lines = command("--help").stdout.splitlines()

    assert (
        "    paper                  The DPO paper's values for TL;DR: RMSprop, 150 steps of warm-up, beta 0.5." in lines
    )
    assert "    beta_sweep             Win rate and KL against DPO's beta in the built-in world." in lines


def test_the_overview_has_the_arms_and_the_graph_of_their_stages(command: Callable):
    lines = command("--help").stdout.splitlines()

    assert "  preferred_ft             the SFT model trained further on the chosen summaries" in lines
    assert "  ppo <- sft, reward" in lines


@pytest.mark.parametrize("group", ["ppo", "data"])
def test_a_groups_page_is_its_files(group: str, command: Callable):
    outcome = command("--help", group)

    assert outcome.exit_code == 0
    for path in (conf_dir() / group).glob("*.yaml"):
        assert f"=== {group}={path.stem} ===\n{path.read_text(encoding='utf-8')}" in outcome.stdout


def test_a_groups_default_comes_first(command: Callable):
    """It explains the keys that the others set otherwise."""
    titles = [line for line in command("--help", "dpo").stdout.splitlines() if line.startswith("=== ")]

    assert titles == [f"=== dpo={option} ===" for option in ("default", "nplus", "paper", "small", "tiny")]


def test_help_among_overrides_runs_nothing(command: Callable):
    outcome = command("seed=1", "--help")

    assert outcome.exit_code == 0 and outcome.stdout.startswith("python -m bench: ")
