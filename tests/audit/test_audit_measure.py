"""The numbers of an audit, from pairs and verdicts made by hand."""

import pytest

from bench.audit.measure import Audit
from bench.audit.pairs import Annotation, LabelledPair
from bench.audit.render import markdown
from bench.errors import DataError
from bench.evaluate.agreement import Shown
from bench.evaluate.statistics import score_interval
from bench.records import Verdict


def pair(name, a, b, *labels, confidences=(), post=None) -> LabelledPair:
    annotations = [
        Annotation(Shown(label, "ab"), None, confidence)
        for label, confidence in zip(labels, confidences or [None] * len(labels), strict=True)
    ]
    return LabelledPair(name, post or f"post of {name}", a, b, tuple(annotations), ())


def verdict(name, order, label) -> Verdict:
    return Verdict(name, "summary_a", "summary_b", order, label, "judge", "")


def audit(pairs) -> Audit:
    return Audit(pairs, seed=0, resamples=100)


def test_a_judges_numbers_by_hand():
    pairs = [
        pair("flipped", "xxxx", "x", "a"),  # first shown wins both times: a tie
        pair("agreed", "xxxx", "x", "a"),
        pair("equal", "xxxx", "yyyy", "b"),
        pair("opposite", "x", "xxxx", "b"),
        pair("lost", "x", "xxxx", "b"),
    ]
    verdicts = [
        verdict("flipped", "ab", "a"), verdict("flipped", "ba", "b"),
        verdict("agreed", "ab", "a"), verdict("agreed", "ba", "a"),
        verdict("equal", "ab", "b"),
        verdict("opposite", "ab", "a"),
        verdict("lost", "ab", "unparsed"), verdict("lost", "ba", "b"),
    ]  # fmt: skip
    found = audit(pairs).judge(verdicts)

    assert (found["n"], found["ties"], found["unparsed"], found["flip_rate"]) == (5, 1, 1, 0.5)
    assert found["accuracy"]["value"] == pytest.approx((0.5 + 1 + 1 + 0) / 4)
    # the table: (tie, a), (a, a), (b, b), (a, b)
    assert found["kappa"]["value"] == pytest.approx((2 / 4 - (2 * 2 + 1 * 2) / 16) / (1 - (2 * 2 + 1 * 2) / 16))
    assert found["position_bias"]["value"] == pytest.approx((1 + 0.5 + 0 + 1 + 1) / 5)
    assert found["length_bias"]["value"] == pytest.approx((0.5 + 1 + 0.5 + 0 + 1) / 5)
    assert found["human_agreement"] is None
    bins = {row["bin"]: row for row in found["by_length_difference"]}
    assert {name: row["pairs"] for name, row in bins.items()} == {"equal": 1, "above 50 %": 4}
    assert bins["above 50 %"]["accuracy"]["value"] == pytest.approx((0.5 + 1 + 0) / 3)
    assert found["by_confidence"] == []


def test_labels_of_several_annotators_beside_the_judge():
    pairs = [pair("1", "xx", "x", "a", "a"), pair("2", "x", "xx", "a", "b"), pair("3", "x", "xx", "b")]
    measured = audit(pairs)
    labels = measured.labels()
    judge = measured.judge([verdict(name, "ab", "b") for name in "123"])

    assert (labels["pairs"], labels["labels"], labels["ties"]) == (3, 5, 0)
    assert labels["position_bias"]["value"] == pytest.approx((1 + 0.5 + 0) / 3)
    assert labels["length_bias"]["value"] == pytest.approx((1 + 0.5 + 1) / 3)
    assert labels["human_agreement"]["pairwise"]["value"] == pytest.approx(1 / 2)
    assert judge["accuracy"]["value"] == pytest.approx((0 + 0.5 + 1) / 3)
    assert judge["human_agreement"]["accuracy"]["value"] == pytest.approx((0 + 0.5) / 2)  # the same pairs


def test_each_confidence_has_the_labels_that_were_given_at_it():
    pairs = [
        pair("1", "xx", "x", "a", "b", confidences=["high", "low"]),
        pair("2", "xx", "x", "a", confidences=["high"]),
        pair("3", "xx", "x", "b"),
    ]
    rows = audit(pairs).judge([verdict(name, "ab", "a") for name in "123"])["by_confidence"]

    assert [(row["bin"], row["pairs"], row["accuracy"]["value"]) for row in rows] == [("high", 2, 1.0), ("low", 1, 0.0)]


def test_many_confidences_are_put_into_quarters():
    pairs = [pair(str(i), "xx", "x", "a", confidences=[float(i)]) for i in range(1, 42)]
    rows = audit(pairs).labels()["by_confidence"]

    assert [(row["bin"], row["pairs"]) for row in rows] == [
        ("up to 11", 11), ("11 to 21", 10), ("21 to 31", 10), ("above 31", 10),
    ]  # fmt: skip


def test_few_confidences_have_a_line_each_in_their_order():
    pairs = [pair(str(i), "xx", "x", "a", confidences=[float(value)]) for i, value in enumerate((10, 2, 2, 1))]

    assert [row["bin"] for row in audit(pairs).labels()["by_confidence"]] == ["1", "2", "10"]


def test_many_words_for_confidence_are_refused():
    pairs = [pair(str(i), "xx", "x", "a", confidences=[f"word {i}"]) for i in range(11)]
    with pytest.raises(DataError, match="confidence has 11 different values that are not all numbers"):
        audit(pairs)


def test_the_page_shows_estimates_with_intervals_and_what_there_is_none_of():
    pairs = [pair(str(i), "xx" * (i % 3), "xx", "ab"[i % 2], "a", confidences=["high", None]) for i in range(12)]
    measured = audit(pairs)
    judge = measured.judge([verdict(str(i), "ab", "a") for i in range(12)])
    numbers = {"data": {"name": "x"}, "labels": measured.labels(), "judges": {"judge": {**judge}}}
    page = markdown(numbers)
    lines = {line.split("|")[1].strip(): line for line in page.splitlines() if line.startswith("|")}

    assert "# Judge audit of x" in page and "12 pairs with 24 labels" in page
    low, high = judge["accuracy"]["ci95"]
    assert f"75.0 % [{100 * low:.1f}, {100 * high:.1f}]" in lines["accuracy against the labels"]
    assert "100.0 %" in lines["first shown chosen (position bias)"]
    assert "Krippendorff's alpha of the annotators" in lines and "high" in lines and "equal" in lines
    assert "judge" not in markdown({**numbers, "judges": {}}).replace("Judge audit", "")
    tables = [block for block in page.split("\n\n") if block.startswith("|")]
    assert all(len(set(map(len, table.splitlines()))) == 1 for table in tables)  # columns are aligned


def test_every_annotator_has_a_row_beside_the_others_and_the_judge():
    def by(name, a, b, **labels):
        annotations = [Annotation(Shown(label, order), who, None) for who, (label, order) in labels.items()]
        return LabelledPair(name, f"post of {name}", a, b, tuple(annotations), ())

    pairs = [
        by("1", "xxx", "x", ann=("a", "ab"), bob=("a", "ba"), cat=("b", "ab")),
        by("2", "x", "xxx", ann=("a", "ab"), bob=("tie", "ab")),
        by("3", "xxx", "x", ann=("b", "ab")),
    ]
    measured = audit(pairs)
    labels = {row["annotator"]: row for row in measured.labels()["annotators"]}
    judge = measured.judge([verdict(name, "ab", "a") for name in "123"])
    beside = {row["annotator"]: row for row in judge["annotators"]}

    assert {name: (row["pairs"], row["ties"]) for name, row in labels.items()} == {
        "ann": (3, 0), "bob": (2, 1), "cat": (1, 0),
    }  # fmt: skip
    # ann: with bob and cat on 1 (1, 0), with bob's tie on 2; pair 3 has no other label.
    assert labels["ann"]["agreement"]["value"] == pytest.approx((1 / 2 + 1 / 2) / 2)
    assert labels["ann"]["agreement"]["n"] == 2 and labels["ann"]["agreement"]["ci95"] is not None
    assert labels["bob"]["agreement"]["value"] == pytest.approx((1 / 2 + 1 / 2) / 2)
    assert labels["cat"]["agreement"]["value"] == 0
    assert labels["ann"]["position_bias"]["value"] == pytest.approx(2 / 3)
    assert labels["ann"]["length_bias"]["value"] == pytest.approx(1 / 3)  # the longer one on 1 alone
    assert [beside[name]["accuracy"]["value"] for name in ("ann", "bob", "cat")] == pytest.approx([2 / 3, 3 / 4, 0])
    # Decided labels, each 1/m of its pair: the longer one in two of three on 1; the shorter one in the third, in one
    # of two on 2 and on 3. The judge says the longer one on 1 and 3, the shorter one on 2.
    assert judge["sensitivity"]["value"] == pytest.approx(1)
    assert judge["specificity"]["value"] == pytest.approx((1 / 2) / (1 / 3 + 1 / 2 + 1))
    report = markdown({"data": {"name": "x"}, "labels": measured.labels(), "judges": {"judge": judge}})
    assert "## By annotator" in report and "| ann       | 3     | 0" in report


def test_labels_without_names_are_in_no_row():
    assert audit([pair("1", "xx", "x", "a")]).labels()["annotators"] == []


def test_pairs_of_one_post_say_as_much_as_one():
    """Ten posts of four pairs, alike within a post: the judge is right on seven posts, and the interval of every share
    is that of n = 9 (1.960 / 2.262)^2, by the design effect 40/9 and Student's t of ten posts; unclustered n is 40."""
    posts = [post for post in range(10) for _ in range(4)]
    names = [str(i) for i in range(40)]
    pairs = [pair(name, "xxxx", "x", "a", "a", post=f"post {post}") for name, post in zip(names, posts, strict=True)]
    said = [
        verdict(name, order, "a" if post < 7 else "b")
        for name, post in zip(names, posts, strict=True)
        for order in ("ab", "ba")
    ]
    measured = audit(pairs)
    found, labels = measured.judge(said), measured.labels()

    n = 9 * (1.959964 / 2.262157) ** 2
    expected = [float(end) for end in score_interval(0.7 * n, 0.3 * n, n)]
    bins = found["by_length_difference"][0]
    for share in (found["accuracy"], found["length_bias"], found["sensitivity"], bins["accuracy"]):
        assert share["value"] == pytest.approx(0.7) and share["n"] == 40
        assert share["ci95"] == pytest.approx(expected, abs=1e-5)
    # What never varies counts once per post: no more is known of it than ten posts tell.
    n = 10 * (1.959964 / 2.262157) ** 2
    all_alike = [float(end) for end in score_interval(n, 0, n)]
    for share in (labels["length_bias"], labels["position_bias"], labels["human_agreement"]["pairwise"]):
        assert share["value"] == 1 and share["ci95"] == pytest.approx(all_alike, abs=1e-5)
    assert (found["flip_rate"], found["flip_rate_ci95"]) == (0, pytest.approx([0, 1 - all_alike[0]], abs=1e-5))


def test_pairs_without_posts_are_of_posts_of_their_own():
    pairs = [LabelledPair(str(i), None, "xxxx", "x", pair("", "", "", "a").annotations, ()) for i in range(40)]
    found = audit(pairs).judge([verdict(str(i), "ab", "a" if i < 28 else "b") for i in range(40)])

    assert found["accuracy"]["ci95"] == pytest.approx([float(end) for end in score_interval(28, 12, 40)])
