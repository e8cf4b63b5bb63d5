"""The policies of runs, each once."""

import math
from collections.abc import Sequence

import pandas as pd

from bench.report.load import NOT_TRAINED, Run, policy_of, records, to_number
from bench.report.sections.results import arm_table
from bench.report.words import is_number


def policy_points(runs: Sequence[Run]) -> pd.DataFrame:
    """One row per distinct policy: `run` (folder name), `seed`, `beta`, then the columns of `arm_table`.

    A policy that several runs share is there once: the SFT model, or the PPO arm in a sweep over `dpo.beta`.
    It is recognised by its stage key in run.json. `beta` is NaN for the SFT model, which has none, and for PPO that is
    held to `kl_target` (nats, else NaN), whose beta moves.
    """
    points = {}
    for run in runs:
        for row in records(arm_table(run)):
            arm = row["arm"]
            if arm in NOT_TRAINED and arm != "sft":
                continue
            seed = run.setting("seed")
            target = to_number(run.setting(f"config.{arm}.kl_target"))
            beta = math.nan if is_number(target) else run.setting(f"config.{arm}.beta", math.nan)
            of_policy = {"run": run.path.name, "seed": seed, "beta": beta, "kl_target": target}
            points.setdefault(policy_of(run, arm), of_policy | row)
    return pd.DataFrame(list(points.values()))
