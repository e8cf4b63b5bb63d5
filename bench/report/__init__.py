"""Finished runs as tables, figures, HTML and Markdown: numbers are read from artifacts, without a model."""

from bench.report.compare import policy_points, render_comparison
from bench.report.figures import (
    Plot,
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
from bench.report.render import render_run

__all__ = [
    "Plot",
    "Run",
    "arm_cost_table",
    "arm_table",
    "claims_table",
    "cost_bars",
    "cost_table",
    "head_to_head_table",
    "kl_vs_beta",
    "load_run",
    "memory_bars",
    "newest_run",
    "policy_points",
    "render_comparison",
    "render_run",
    "reward_kl_points",
    "reward_model_table",
    "training_curves",
    "training_plots",
    "trivial_policy_table",
    "win_rate_bars",
    "win_rate_vs_beta",
]
