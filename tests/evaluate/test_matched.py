"""Two frontiers at equal KL: by hand, in a simulated world, and refused where they do not meet."""

import numpy as np
import pytest

from bench.evaluate.matched import Policy, matched


def policy(kl, wins, n=40):
    """Every prompt has this KL; the first `wins` of n are won."""
    names = [str(i) for i in range(n)]
    return Policy({p: kl for p in names}, {p: float(i < wins) for i, p in enumerate(names)})


def test_by_hand():
    """Roots 1 to 3 against 0 to 2 share 1 to 2: the first goes from 20 to 30 of 40 there, the second from 10 to 20."""
    first = [policy(1.0, 20), policy(9.0, 40)]
    second = [policy(0.0, 0), policy(4.0, 20)]
    found = matched({0: (first, second)}, resamples=200)
    assert found["range"] == pytest.approx([1.0, 4.0])
    assert [row["spent"] for row in found["at"]] == pytest.approx([1.0, 1.5625, 2.25, 3.0625, 4.0])
    assert [row["first"]["value"] for row in found["at"]] == pytest.approx(np.linspace(20, 30, 5) / 40)
    assert [row["second"]["value"] for row in found["at"]] == pytest.approx(np.linspace(10, 20, 5) / 40)
    assert found["value"] == pytest.approx(0.25)
    assert found["ci95"][0] < 0.25 < found["ci95"][1] and found["reason"] is None
    assert (found["n"], found["seeds"]) == (40, 1)


def test_settings_may_come_in_any_order():
    first = [policy(1.0, 20), policy(9.0, 40), policy(4.0, 25)]
    second = [policy(0.0, 0), policy(4.0, 20)]
    again = matched({0: (first[::-1], second[::-1])}, resamples=50)
    assert again["value"] == pytest.approx(matched({0: (first, second)}, resamples=50)["value"])


def test_three_seeds_have_students_interval():
    """Differences 0.2, 0.3 and 0.25: mean 0.25, sd 0.05, and t(0.975, 2) = 4.3027."""
    seeds = {
        s: ([policy(1.0, w), policy(4.0, w)], [policy(1.0, 10), policy(4.0, 10)]) for s, w in enumerate((18, 22, 20))
    }
    found = matched(seeds, resamples=50)
    assert found["value"] == pytest.approx(0.25)
    assert found["ci95"] == pytest.approx([0.25 - 4.3027 * 0.05 / 3**0.5, 0.25 + 4.3027 * 0.05 / 3**0.5], abs=1e-4)
    wider = matched(seeds, resamples=50, shared=True)
    assert wider["ci95"][0] < found["ci95"][0] and wider["ci95"][1] > found["ci95"][1]


def test_frontiers_that_do_not_meet_are_refused():
    apart = matched({0: ([policy(5.0, 9), policy(9.0, 9)], [policy(0.5, 9), policy(1.0, 9)])}, resamples=50)
    assert apart["value"] is None and apart["at"] == []
    assert apart["reason"] == "nothing is reached by both arms in every seed (KL, nats: 5 to 9 and 0.5 to 1)"
    alone = matched({0: ([policy(5.0, 9)], [policy(0.5, 9), policy(1.0, 9)])}, resamples=50)
    assert "two settings" in alone["reason"]
    assert "two settings" in matched({})["reason"]


@pytest.mark.slow
def test_intervals_cover():
    """Two arms whose win rate is 0.3 + 0.1 root KL and 0.2 + 0.1 root KL, KLs log-normal: the difference is 0.1."""
    rng = np.random.default_rng(0)

    def arm(base, n):
        policies = []
        for root in (0.8, 1.5, 2.2):
            kls = root**2 * rng.lognormal(-0.18, 0.6, n)  # of mean 1
            wins = rng.random(n) < base + 0.1 * root
            of_prompts = ({str(i): float(value) for i, value in enumerate(values)} for values in (kls, wins))
            policies.append(Policy(*of_prompts))
        return policies

    covered = []
    for repetition in range(150):
        found = matched({0: (arm(0.3, 100), arm(0.2, 100))}, repetition, 200)
        covered.append(found["ci95"][0] <= 0.1 <= found["ci95"][1])
    # 150 repetitions of 95 %: 136 to 149 with 99.9 %.
    assert sum(covered) >= 136
