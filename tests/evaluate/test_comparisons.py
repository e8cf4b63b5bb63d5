"""What a run says of its verdicts as a whole; the numbers themselves are tested where they are computed."""

import math

import pytest
from scipy import stats

from bench.evaluate.comparisons import against_reference, head_to_heads, judge_habits, paired_wins, strengths
from bench.evaluate.judge_error import Labelled
from bench.evaluate.length_control import Sized, length_controlled_win_rates
from bench.evaluate.power import prompts_needed
from bench.evaluate.win_rate import SWAPPED
from bench.records import Verdict, VerdictLabel

LABELS: dict[str, VerdictLabel] = {"a": "a", "b": "b", "t": "tie", "?": "unparsed"}


def verdicts(a, b, labels, judge="fake"):
    """One verdict per prompt in order ab; a label of two letters is one in each order, as the judge saw them."""
    rows = []
    for i, label in enumerate(labels):
        rows.append(Verdict(f"p{i}", a, b, "ab", LABELS[label[0]], judge, ""))
        if len(label) == 2:
            rows.append(Verdict(f"p{i}", a, b, "ba", SWAPPED[LABELS[label[1]]], judge, ""))
    return rows


def lengths_of(**arms):
    return {arm: {f"p{i}": float(length) for i, length in enumerate(lengths)} for arm, lengths in arms.items()}


N = 12
LENGTHS = lengths_of(
    dpo=[20, 9, 30, 12, 8, 25, 20, 9, 30, 12, 8, 25], ppo=[12] * N, sft=[11] * N, reference=[10, 14] * (N // 2)
)


def test_lengths_are_those_of_the_prompts_that_were_parsed():
    labels = {"dpo": "a?babaatbbab", "sft": "babab?bbabab"}
    duels = {(arm, "reference"): {"fake": verdicts(arm, "reference", labels[arm])} for arm in labels}
    by_arm = against_reference(duels, LENGTHS, LENGTHS, {}, seed=0, resamples=100)
    sized = {
        arm: {
            f"p{i}": Sized({"a": 1.0, "b": 0.0, "t": 0.5}[label], LENGTHS[arm][f"p{i}"], LENGTHS["reference"][f"p{i}"])
            for i, label in enumerate(labels[arm])
            if label != "?"
        }
        for arm in labels
    }
    together = length_controlled_win_rates(sized, one_opponent=True)
    for arm, found in by_arm.items():
        points = [row.points for row in sized[arm].values()]
        assert found["win_rate"]["fake"]["n"] == 11
        assert found["win_rate_length_controlled"]["fake"] == together[arm] and together[arm]["value"] is not None
        by_length = found["win_rate_by_length"]["fake"]
        assert sum(b["n"] for b in by_length) == 11
        assert sum(b["n"] * b["value"] for b in by_length if b["n"]) == pytest.approx(sum(points))


def test_win_rates_are_corrected_for_the_judges_with_labels():
    labels = [Labelled(str(i), 1, verdict, 1) for i, verdict in enumerate([1] * 90 + [-1] * 10)]
    labels += [Labelled(str(i), -1, verdict, 1) for i, verdict in enumerate([-1] * 70 + [1] * 30, start=100)]
    judged = {"fake": verdicts("dpo", "reference", "aaab?b"), "gold": verdicts("dpo", "reference", "aaaaaa")}
    characters = lengths_of(dpo=[5] * 6, reference=[4, 4, 4, 4, 9, 9])  # tokens would say otherwise on p1 and p3
    found = against_reference(
        {("dpo", "reference"): judged}, LENGTHS, characters, {"fake": labels}, seed=0, resamples=100
    )["dpo"]["win_rate_corrected"]
    # Longer on 4 of 5 parsed prompts and shorter on 1: o = 3/5; alpha = .9 - .7, c = .9 + .7 - 1; mean of s = 1/5.
    assert found["fake"]["value"] == pytest.approx((1 + (1 / 5 - 0.2 * 3 / 5) / 0.6) / 2)
    assert set(found) == {"fake"}


def test_wins_are_paired_by_prompt_and_a_tie_is_no_win():
    a = verdicts("dpo", "reference", "aaatb?ab")
    b = verdicts("ppo", "reference", "abtabaab")
    found = paired_wins(a, list(reversed(b)), seed=0, resamples=100)  # whatever their order
    # p0 both; p1, p2 only a; p3 only b; p4 neither; p5 is unparsed; p6 both; p7 neither.
    assert [found[cell] for cell in ("both", "only_a", "only_b", "neither")] == [2, 2, 1, 2]
    assert found["p_value"] == 1.0  # 2 of 3 or more, twice, is 1
    assert found["difference"]["value"] == pytest.approx((1 + 0.5 - 0.5) / 7)
    assert found["difference"]["n"] == 7


def test_no_prompt_judged_for_both_is_no_difference():
    found = paired_wins(verdicts("x", "reference", "?a"), verdicts("y", "reference", "a?"), seed=0)
    assert (found["difference"], found["p_value"]) == ({"value": None, "ci95": None, "n": 0}, 1.0)


def test_p_values_are_adjusted_over_the_pairs_of_one_judge():
    duels = {
        ("dpo", "ppo"): {"fake": verdicts("dpo", "ppo", "a" * 9 + "b" * 3)},
        ("dpo", "sft"): {"fake": verdicts("dpo", "sft", "a" * 11 + "b")},
        ("ppo", "sft"): {"fake": verdicts("ppo", "sft", "a" * 10 + "b" * 2)},
    }
    references = {
        arm: {"fake": verdicts(arm, "reference", "a" * wins + "b" * (N - wins))}
        for arm, wins in (("dpo", 12), ("ppo", 6), ("sft", 2))
    }
    found = head_to_heads(duels, references, LENGTHS, seed=0, resamples=100)

    assert list(found) == ["dpo_vs_ppo", "dpo_vs_sft", "ppo_vs_sft"]
    # Sign tests of 9:3, 11:1 and 10:2, both tails.
    p = [2 * sum(math.comb(12, k) for k in range(losses + 1)) / 2**12 for losses in (3, 1, 2)]
    assert [entry["p_value"]["fake"] for entry in found.values()] == pytest.approx(p)
    assert [entry["p_holm"]["fake"] for entry in found.values()] == pytest.approx([p[0], 3 * p[1], 2 * p[2]])
    # Wins against the reference are nested: 6, 10 and 4 prompts are discordant, all one way.
    mcnemar = [entry["mcnemar"]["fake"] for entry in found.values()]
    assert [row["p_value"] for row in mcnemar] == pytest.approx([2 / 2**6, 2 / 2**10, 2 / 2**4])
    assert [row["p_holm"] for row in mcnemar] == pytest.approx([2 * 2 / 2**6, 3 * 2 / 2**10, 2 / 2**4])
    assert [row["difference"]["value"] for row in mcnemar] == pytest.approx([6 / 12, 10 / 12, 4 / 12])


@pytest.mark.slow
def test_an_undecided_pair_says_how_many_prompts_it_would_take():
    def of(labels):
        duels = {("dpo", "ppo"): {"fake": verdicts("dpo", "ppo", labels)}}
        references = {arm: {"fake": verdicts(arm, "reference", "ab" * 6)} for arm in ("dpo", "ppo")}
        entry = head_to_heads(duels, references, LENGTHS, seed=0, resamples=100)["dpo_vs_ppo"]
        return entry["first_is_better"]["fake"], entry["prompts_needed"]["fake"]

    assert of("a" * 12) == ("supported", None)
    assert of("b" * 12) == ("contradicted", None)
    # 5 won, 3 lost, 4 tied: wins minus losses 2/12 of which 8/12 are untied.
    assert of("aaaaabbbtttt") == ("not decided at this n", prompts_needed(2 / 12, discordant=8 / 12))
    assert of("ab" * 6) == ("not decided at this n", None)  # no number of prompts tells nothing from nothing
    assert of("?" * 12) == ("not decided at this n", None)


def test_a_pair_is_decided_within_its_family():
    """6 wins of 6: p = 2 / 2^6 = 0.031 decides one pair alone, and not one of three (times 3 by Holm)."""
    alone = {("dpo", "ppo"): {"fake": verdicts("dpo", "ppo", "a" * 6)}}
    others = {(a, b): {"fake": verdicts(a, b, "ab" * 3)} for a, b in (("dpo", "sft"), ("ppo", "sft"))}
    references = {arm: {"fake": verdicts(arm, "reference", "ab" * 3)} for arm in ("dpo", "ppo", "sft")}
    for duels, decision in ((alone, "supported"), (alone | others, "not decided at this n")):
        entry = head_to_heads(duels, references, LENGTHS, seed=0, resamples=100)["dpo_vs_ppo"]
        assert entry["win_rate"]["fake"]["ci95"][0] > 0.5
        assert entry["first_is_better"]["fake"] == decision
        assert (entry["prompts_needed"]["fake"] is None) == (decision == "supported")


def test_strengths_use_every_duel_and_skip_a_judge_without_verdicts():
    duels = {
        ("dpo", "reference"): {"fake": verdicts("dpo", "reference", "aaab"), "mute": verdicts("dpo", "reference", "?")},
        ("ppo", "reference"): {"fake": verdicts("ppo", "reference", "aabb"), "mute": verdicts("ppo", "reference", "?")},
        ("dpo", "ppo"): {"fake": verdicts("dpo", "ppo", "aaat"), "mute": verdicts("dpo", "ppo", "?")},
    }
    found = strengths(duels, "reference", seed=0, resamples=100)
    assert list(found) == ["fake"]
    assert set(found["fake"]) == {"dpo", "ppo", "reference"}
    assert found["fake"]["dpo"]["value"] > found["fake"]["ppo"]["value"] > -0.5


def test_habits_of_a_judge_over_all_its_duels():
    lengths = lengths_of(dpo=[10, 20], ppo=[20, 10], sft=[15, 15])
    duels = {
        # As shown: p0 first, first (disagree); p1 first, second (agree on dpo).
        ("dpo", "ppo"): {"fake": verdicts("dpo", "ppo", ["aa", "ab"])},
        # Both orders for ppo on p0; a tie and an unparsed one on p1.
        ("ppo", "sft"): {"fake": verdicts("ppo", "sft", ["ab", "t?"])},
    }
    found = judge_habits(duels, lengths, seed=0, resamples=100)["fake"]
    assert found["flip_rate"] == pytest.approx(1 / 3)
    # p0 was in two duels and p1 in one: fewer than three independent prompts.
    low, high = stats.binomtest(1, 3).proportion_ci(method="wilson")
    assert found["flip_rate_ci95"][0] < low and found["flip_rate_ci95"][1] > high
    assert (found["decided"], found["ties"], found["unparsed"]) == (6, 1, 1)
    # Shown first: on p0 in 2 of 2 and 1 of 2 duels, 3 of 4 verdicts; on p1 in 1 of 2.
    assert found["position_bias"]["value"] == pytest.approx((3 / 4 + 1 / 2) / 2)
    # The longer one: on p0 ppo once of two (20 > 10), then ppo twice (20 > 15); on p1 dpo twice (20 > 10).
    assert found["length_bias"]["value"] == pytest.approx((3 / 4 + 1) / 2)
