"""Finished runs as tables, figures, HTML and Markdown: numbers are read from artifacts, without a model."""

from bench.report.compare import policy_points, render_comparison
from bench.report.evaluator_figures import best_of_n_curve, strength_bars, win_rate_by_length
from bench.report.evaluator_tables import (
    best_of_n_table,
    degeneration_table,
    health_table,
    judge_table,
    length_bin_table,
    length_table,
    paired_wins_table,
    projected_table,
    strength_table,
)
from bench.report.figures import (
    cost_bars,
    kl_vs_beta,
    memory_bars,
    reward_kl_points,
    training_plots,
    win_rate_bars,
    win_rate_vs_beta,
)
from bench.report.load import (
    Run,
    arm_cost_table,
    arm_table,
    claims_table,
    cost_table,
    head_to_head_table,
    load_run,
    newest_run,
    reward_model_table,
    training_curves,
    trivial_policy_table,
)
from bench.report.over_seeds import seed_points, seed_summaries
from bench.report.plot import Plot
from bench.report.render import render_run

__all__ = [
    "Plot",
    "Run",
    "arm_cost_table",
    "arm_table",
    "best_of_n_curve",
    "best_of_n_table",
    "claims_table",
    "cost_bars",
    "cost_table",
    "degeneration_table",
    "head_to_head_table",
    "health_table",
    "judge_table",
    "kl_vs_beta",
    "length_bin_table",
    "length_table",
    "load_run",
    "memory_bars",
    "newest_run",
    "paired_wins_table",
    "policy_points",
    "projected_table",
    "render_comparison",
    "render_run",
    "reward_kl_points",
    "reward_model_table",
    "seed_points",
    "seed_summaries",
    "strength_bars",
    "strength_table",
    "training_curves",
    "training_plots",
    "trivial_policy_table",
    "win_rate_bars",
    "win_rate_by_length",
    "win_rate_vs_beta",
]
