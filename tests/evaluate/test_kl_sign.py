from dataclasses import fields

from bench.evaluate.heavy_tails import mean_with_tail
from bench.evaluate.kl_sign import negative_kls
from bench.train.health.record import health_summary
from bench.train.health.watch import Finding


def test_a_kl_below_zero_is_a_finding_and_one_around_it_is_none():
    greedy = mean_with_tail([-2.0, -1.5, -2.4, -1.9, -2.1, -1.7] * 40)
    around = mean_with_tail([-0.2, 0.1, 0.2, -0.1] * 60)
    arms = {
        "ppo": {"kl_ref": greedy, "kl_ref_k1": greedy},
        "dpo": {"kl_ref": mean_with_tail([2.0, 3.0, 4.0]), "kl_ref_k1": greedy},
        "rloo": {"kl_ref": around, "kl_ref_k1": around},
        "sft": {"kl_ref": mean_with_tail([0.0] * 9)},
        "best_of_n": {"kl_ref": {"value": 1.0, "ci95": None}},
        "reference": {},
    }
    found = negative_kls(arms)
    assert list(found) == ["ppo", "dpo"]  # k1 tells where the exact KL, which is never negative, cannot
    assert found["ppo"]["value"] == greedy["ci95"][1] < 0
    assert set(found["ppo"]) == {field.name for field in fields(Finding)}
    (line,) = health_summary({"ppo": {"findings": [found["ppo"]]}})
    assert line.startswith("health: ppo, evaluation: warning: the KL to the SFT model on held-out prompts is -1.93")
