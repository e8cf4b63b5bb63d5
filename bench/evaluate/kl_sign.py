"""A KL that comes out below 0 is no KL: what the evaluation adds to a run's health."""

from collections.abc import Mapping
from typing import Any


def negative_kls(arms: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """arm -> a finding (as the trainers' checks make them; no step) where the whole interval of its KL is below 0.

    Args:
        arms: those of metrics.json.
    """
    found = {}
    for arm, measured in arms.items():
        for name in ("kl_ref", "kl_ref_k1"):
            ci95 = (measured.get(name) or {}).get("ci95")
            if ci95 is not None and ci95[1] < 0:
                found[arm] = {
                    "check": "kl_below_zero",
                    "severity": "warning",
                    "step": None,
                    "value": ci95[1],
                    "threshold": 0.0,
                    "message": f"the KL to the SFT model on held-out prompts is {measured[name]['value']:.3g} nats, its"
                    f" interval ends at {ci95[1]:.3g}, and a KL cannot be negative: the completions were not drawn from"
                    " the distribution whose log-probs are taken",
                    "advice": "sampling.temperature above 0 (greedy completions have no KL), over all tokens, with the"
                    " weights that are evaluated",
                }
                break
    return found
