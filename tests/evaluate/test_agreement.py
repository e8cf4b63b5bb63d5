import itertools
import math

import numpy as np
import pytest
from scipy import stats
from scipy.special import ndtr, ndtri

from bench.evaluate import agreement
from bench.evaluate.agreement import (
    Shown,
    accuracy,
    kappa,
    krippendorff_alpha,
    length_bias,
    length_bin,
    pairwise_agreement,
    position_bias,
)
from bench.records import VerdictLabel

SEED = 0


def one_each(*labels: VerdictLabel) -> list[list[VerdictLabel]]:
    return [[label] for label in labels]


def repeated(
    counts: dict[tuple[VerdictLabel, VerdictLabel], int],
) -> tuple[list[VerdictLabel], list[list[VerdictLabel]]]:
    """Verdicts and labels with so many pairs of each (verdict, label)."""
    rows = [pair for pair, times in counts.items() for _ in range(times)]
    return [verdict for verdict, _ in rows], [[label] for _, label in rows]


def plain_kappa(rows) -> float:
    """Chance-corrected agreement by its definition; 0 where chance explains everything."""
    n = len(rows)
    observed = sum(verdict == label for verdict, label in rows) / n
    expected = sum(
        sum(verdict == c for verdict, _ in rows) / n * sum(label == c for _, label in rows) / n
        for c in ("a", "b", "tie")
    )
    return 0.0 if expected == 1 else (observed - expected) / (1 - expected)


def plain_alpha(labels) -> float:
    """1 - observed / expected disagreement, every two labels of a pair and every two labels of all written out."""
    units = [given for given in labels if len(given) > 1]
    values = list(itertools.chain(*units))
    observed = sum(
        sum(x != y for x, y in itertools.permutations(given, 2)) / (len(given) - 1) for given in units
    ) / len(values)
    expected = sum(x != y for x, y in itertools.permutations(values, 2)) / (len(values) * (len(values) - 1))
    return 1 - observed / expected


def test_accuracy_counts_a_tie_against_a_decision_half_and_leaves_out_what_was_not_parsed():
    verdicts: list[VerdictLabel] = ["a", "b", "tie", "tie", "unparsed", "b"]
    labels: list[list[VerdictLabel]] = [["a"], ["a"], ["b"], ["tie"], ["a"], ["a", "b", "b", "tie"]]
    # 1, 0, 1/2, 1, -, and of the last pair's four annotators: 0, 1, 1, 1/2
    found = accuracy(verdicts, labels, SEED)

    assert found["value"] == pytest.approx((1 + 0 + 0.5 + 1 + 2.5 / 4) / 5)
    assert found["n"] == 5


def test_kappa_of_a_table_by_hand():
    # 35 of 50 agree; the judge says a 25 times, the labels 30 times: chance gives .5 * .6 + .5 * .4 = .5
    verdicts, labels = repeated({("a", "a"): 20, ("a", "b"): 5, ("b", "a"): 10, ("b", "b"): 15})
    found = kappa(verdicts, labels, SEED)

    assert found["value"] == pytest.approx((0.7 - 0.5) / (1 - 0.5))
    # Its large-sample standard error (Fleiss, Cohen & Everitt 1969) is 0.127 here.
    assert found["ci95"] == pytest.approx([0.4 - 1.96 * 0.127, 0.4 + 1.96 * 0.127], abs=0.03)
    assert found["n"] == 50


def test_kappa_takes_a_tie_for_an_answer_of_its_own():
    verdicts, labels = repeated(
        {("a", "a"): 7, ("a", "tie"): 2, ("b", "b"): 5, ("tie", "b"): 3, ("tie", "tie"): 1, ("b", "a"): 2}
    )

    expected = plain_kappa([(verdict, label) for verdict, (label,) in zip(verdicts, labels, strict=True)])
    assert kappa(verdicts, labels, SEED)["value"] == pytest.approx(expected)
    assert kappa([*verdicts, "unparsed"], [*labels, ["a"]], SEED)["value"] == pytest.approx(expected)


def test_several_annotators_share_one_count_of_kappas_table():
    # The table in counts: (a, a) 1/2 + 1, (a, b) 1/2, (b, b) 3/4, (b, a) 1/4; of 3.
    found = kappa(["a", "a", "b"], [["a", "b"], ["a"], ["b", "b", "b", "a"]], SEED)
    observed, expected = 2.25 / 3, (2 / 3) * (1.75 / 3) + (1 / 3) * (1.25 / 3)

    assert found["value"] == pytest.approx((observed - expected) / (1 - expected))
    assert found["n"] == 3


def test_kappas_interval_is_bca_over_all_resamples_of_the_pairs():
    rows: list[tuple[VerdictLabel, VerdictLabel]] = [
        ("a", "a"), ("a", "a"), ("b", "a"), ("b", "b"), ("a", "b"), ("b", "b"),
    ]  # fmt: skip
    n = len(rows)
    value = plain_kappa(rows)
    resampled = np.sort([plain_kappa(resample) for resample in itertools.product(rows, repeat=n)])
    bias = ndtri(((resampled < value - 1e-9).mean() + (resampled <= value + 1e-9).mean()) / 2)
    without_one = np.array([plain_kappa(rows[:i] + rows[i + 1 :]) for i in range(n)])
    pull = without_one.mean() - without_one
    acceleration = (pull**3).sum() / (6 * (pull**2).sum() ** 1.5)
    ends = [
        np.quantile(resampled, ndtr(bias + (bias + z) / (1 - acceleration * (bias + z))))
        for z in (ndtri(0.025), ndtri(0.975))
    ]
    verdicts: list[VerdictLabel] = [verdict for verdict, _ in rows]
    labels: list[list[VerdictLabel]] = [[label] for _, label in rows]

    assert kappa(verdicts, labels, SEED, resamples=20_000)["ci95"] == pytest.approx(ends, abs=0.02)


def test_annotators_of_a_pair_stay_together():
    """The same labels twice are no more pairs: nothing gets surer."""
    verdicts, labels = repeated({("a", "a"): 12, ("a", "b"): 4, ("b", "b"): 9, ("tie", "a"): 3})
    doubled = [given * 2 for given in labels]

    for measure in (accuracy, kappa):
        once, twice = measure(verdicts, labels, SEED), measure(verdicts, doubled, SEED)
        assert once["n"] == twice["n"] == 28
        assert once["value"] == pytest.approx(twice["value"])
        assert once["ci95"] == pytest.approx(twice["ci95"])


def test_alpha_of_krippendorffs_own_example():
    # Two observers, ten units, n = 20 values, 14 of one kind and 6 of the other, 4 units in disagreement:
    # 1 - (n - 1) 4 / (14 * 6) = 0.095 (Krippendorff 2011, Computing Krippendorff's Alpha-Reliability, A)
    coded: dict[str, VerdictLabel] = {"a": "a", "b": "b"}
    first, second = "babbbbbbab", "aaabbabbbb"
    found = krippendorff_alpha([[coded[x], coded[y]] for x, y in zip(first, second, strict=True)], SEED)

    assert found["value"] == pytest.approx(1 - 19 * 4 / (14 * 6))
    assert found["n"] == 10


def test_alpha_of_unequal_numbers_of_annotators_with_ties():
    labels: list[list[VerdictLabel]] = [
        ["a", "a", "b"], ["b", "b"], ["tie", "a"], ["a"], ["a", "a", "a", "tie"], ["b", "tie", "b"], ["a", "a"],
    ]  # fmt: skip
    found = krippendorff_alpha(labels, SEED)

    assert found["value"] == pytest.approx(plain_alpha(labels))
    assert found["n"] == 6  # one annotator alone says nothing of agreement
    low, high = found["ci95"]
    assert low < found["value"] < high <= 1


def test_alphas_interval_covers_what_annotators_without_a_clue_have():
    labels = np.random.default_rng(5).choice(["a", "b", "tie"], size=(300, 3), p=[0.5, 0.4, 0.1]).tolist()
    low, high = krippendorff_alpha(labels, SEED)["ci95"]

    assert low < 0 < high
    assert 0.05 < high - low < 0.12  # 900 pairs of labels, 42 % of them equal by chance: sd about 0.028


def test_two_annotators_of_a_pair_are_compared_with_each_other():
    labels: list[list[VerdictLabel]] = [["a", "a"], ["a", "b"], ["a", "a", "tie"], ["b"]]
    found = pairwise_agreement(labels, SEED)

    assert found["value"] == pytest.approx((1 + 0 + (1 + 0.5 + 0.5) / 3) / 3)
    assert found["n"] == 3


def kappa_of_two(labels):
    return kappa([one for one, _ in labels], [[other] for _, other in labels], SEED)


def alpha_of_two(labels):
    return krippendorff_alpha(labels, SEED)


@pytest.mark.parametrize("measure", [kappa_of_two, alpha_of_two])
def test_where_agreement_beyond_chance_cannot_be_seen(measure):
    assert measure([["a", "a"]] * 6) == {"value": None, "ci95": None, "n": 6}  # nothing else was ever said
    perfect = measure([["a", "a"], ["b", "b"]] * 3)
    assert (perfect["value"], perfect["ci95"], perfect["n"]) == (pytest.approx(1), None, 6)
    assert perfect["reason"] == "it is the same whichever pairs are drawn"
    assert measure([["a", "b"]])["ci95"] is None  # one pair says nothing about the spread
    assert measure([]) == {"value": None, "ci95": None, "n": 0}


def test_position_bias_is_the_share_that_the_summary_shown_first_wins():
    shown = [
        [Shown("a", "ab")],  # first
        [Shown("a", "ba")],  # second
        [Shown("b", "ba")],  # first
        [Shown("b", "ba")],  # first
        [Shown("a", "ab"), Shown("b", "ba"), Shown("tie", "ab")],  # first twice
        [Shown("a", "ab"), Shown("a", "ba")],  # once each
        [Shown("tie", "ab")],
        [Shown("unparsed", "ab")],
        [Shown("a", None)],
    ]
    found = position_bias(shown, SEED)

    assert found["value"] == pytest.approx((1 + 0 + 1 + 1 + 1 + 0.5) / 6)
    assert found["n"] == 6


def test_length_bias_is_the_share_that_the_longer_summary_wins():
    verdicts: list[list[VerdictLabel]] = [["a"], ["b"], ["b"], ["a", "b", "tie"], ["a"], ["tie"], ["unparsed"]]
    lengths = [(9, 4), (9, 4), (4, 9), (9, 4), (4, 4), (9, 4), (9, 4)]
    found = length_bias(verdicts, lengths, SEED)

    assert found["value"] == pytest.approx((1 + 0 + 1 + 0.5 + 0.5) / 5)
    assert (found["n"], found["equal_length"]) == (5, 1)


def test_length_bias_of_labels_is_the_accuracy_of_the_rule_longer_wins():
    rng = np.random.default_rng(2)
    lengths = [(int(a), int(b)) for a, b in rng.integers(3, 9, size=(80, 2))]
    labels = one_each(*rng.choice(["a", "b"], size=80))
    rule: list[VerdictLabel] = ["tie" if a == b else "a" if a > b else "b" for a, b in lengths]
    bias = length_bias(labels, lengths, SEED)

    assert bias.pop("equal_length") == rule.count("tie") > 0
    assert bias == accuracy(rule, labels, SEED)


def test_summaries_that_are_all_of_equal_length_have_no_length_bias():
    assert length_bias([["a"], ["b"]], [(4, 4), (7, 7)], SEED) == {
        "value": None,
        "ci95": None,
        "n": 0,
        "equal_length": 2,
    }


@pytest.mark.parametrize(
    ("a", "b", "name"),
    [
        (0, 0, "equal"),
        (50, 50, "equal"),
        (90, 100, "up to 10 %"),
        (100, 89, "10 to 25 %"),
        (75, 100, "10 to 25 %"),
        (74, 100, "25 to 50 %"),
        (50, 100, "25 to 50 %"),
        (100, 49, "above 50 %"),
        (0, 3, "above 50 %"),
    ],
)
def test_difference_in_length_is_relative_to_the_longer_summary(a, b, name):
    assert length_bin(a, b) == name


def test_intervals_are_a_function_of_the_seed():
    verdicts, labels = repeated({("a", "a"): 9, ("a", "b"): 4, ("b", "b"): 8})

    assert kappa(verdicts, labels, 0) == kappa(verdicts, labels, 0)
    assert kappa(verdicts, labels, 0) != kappa(verdicts, labels, 1)
    assert math.isfinite(kappa(verdicts, labels, 1)["value"])


def test_kappas_interval_over_posts_is_that_of_whole_posts():
    """Each pair of 30 posts four times: the value of 120 pairs, and the resamples, so the interval, of 30."""
    rng = np.random.default_rng(3)
    verdicts = rng.choice(["a", "b"], size=30).tolist()
    labels: list[list[VerdictLabel]] = [[verdict if rng.random() < 0.8 else "tie"] for verdict in verdicts]
    posts = [post for post in range(30) for _ in range(4)]
    once = kappa(verdicts, labels, SEED)
    fourfold = [verdicts[post] for post in posts], [labels[post] for post in posts]
    found = kappa(*fourfold, SEED, posts=posts)

    assert (found["value"], found["n"]) == (pytest.approx(once["value"]), 120)
    assert found["ci95"] == pytest.approx(once["ci95"])
    low, high = kappa(*fourfold, SEED)["ci95"]  # as if each were of a post of its own: half as wide
    assert high - low == pytest.approx((once["ci95"][1] - once["ci95"][0]) / 2, rel=0.15)


def test_alphas_interval_over_posts_is_that_of_whole_posts():
    rng = np.random.default_rng(4)
    labels = rng.choice(["a", "b", "tie"], size=(24, 2), p=[0.6, 0.3, 0.1]).tolist()
    posts = [post for post in range(24) for _ in range(5)]
    found = krippendorff_alpha([labels[post] for post in posts], SEED, posts=posts)
    # By its definition with n values, of which 5 n are copies: 1 - (N - 1) D / E, so that it differs by (N - 1) / N.
    n, value = 48, krippendorff_alpha(labels, SEED)["value"]
    assert found["value"] == pytest.approx(1 - (1 - value) * (5 * n - 1) / (5 * n) * n / (n - 1))
    once = krippendorff_alpha(labels, SEED)["ci95"]
    assert found["ci95"] == pytest.approx(once, abs=0.03)


def test_posts_are_those_of_the_pairs_that_have_a_value():
    """The unparsed pair leaves with its post: two posts of two pairs each stay, one all right, one all wrong."""
    verdicts: list[VerdictLabel] = ["a", "a", "unparsed", "b", "b"]
    found = accuracy(verdicts, one_each("a", "a", "a", "a", "a"), SEED, posts=[0, 0, 1, 2, 2])
    alone = accuracy(["a", "a", "b", "b"], one_each("a", "a", "a", "a"), SEED, posts=[0, 0, 2, 2])

    assert found == alone and found["n"] == 4
    assert accuracy(["a", "b"], one_each("a", "a"), SEED, posts=[0, 0])["ci95"] is None
    assert (
        kappa(["a", "b"], one_each("a", "a"), SEED, posts=[0, 0])["reason"]
        == "it is the same whichever posts are drawn"
    )


def test_intervals_over_posts_are_those_of_scipys_bootstrap():
    """scipy adds the rows of each resample up one by one, and leaves each post out in n^2 steps."""
    rng = np.random.default_rng(0)
    rows = rng.integers(0, 2, (40, 2)).astype(float)
    posts = [int(post) for post in rng.integers(0, 15, 40)]
    names = list(dict.fromkeys(posts))  # posts are resampled in the order in which they come

    def plain(drawn) -> float:
        of_both = np.concatenate([rows[[post == names[i] for post in posts]] for i in drawn])
        return float(np.prod(of_both.mean(0)))

    def statistic(distinct: np.ndarray, counts: np.ndarray) -> float:
        return float(np.prod(np.average(distinct, axis=0, weights=counts)))

    found = agreement._bca([*rows], statistic, 3, 300, posts)
    low, high = stats.bootstrap(
        (np.arange(len(names)),), plain, n_resamples=300, vectorized=False, method="BCa", rng=np.random.default_rng(3)
    ).confidence_interval
    assert found["ci95"] == pytest.approx([low, high], abs=1e-9)
