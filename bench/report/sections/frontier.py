"""What the distance from the SFT model bought: reward against KL."""

from bench.report.load import NOT_TRAINED, Run
from bench.report.over_beta import reward_kl_points
from bench.report.page import Block, Figures
from bench.report.plot import drawn
from bench.report.policies import policy_points
from bench.report.sections.overoptimisation import best_of_n_rows, rollouts_over_kl


def section(run: Run) -> list[Block]:
    """Nothing where nothing was trained."""
    if all(arm in NOT_TRAINED for arm in run.arms):
        return []
    plots = drawn([reward_kl_points(policy_points([run]), best_of_n_rows(run)), rollouts_over_kl(run)])
    return [Figures(plots)] if plots else []
