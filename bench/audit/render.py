"""audit.json as Markdown, aligned so that it reads as well on a terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

_BIN_TITLES = {
    "by_length_difference": "difference in length",
    "by_confidence": "confidence",
}

MOST_ANNOTATORS = 30
"""Annotators with a row in the report; audit.json has all."""


def markdown(audit: Mapping[str, Any]) -> str:
    """Tables of everything in audit.json."""
    labels, judges = audit["labels"], audit["judges"]
    parts = [
        f"# Judge audit of {audit['data']['name']}",
        f"{labels['pairs']:,} pairs with {labels['labels']:,} labels. Value [95 % interval, over posts] (n where it is"
        " not all pairs). Lengths are in characters; a tie counts half for agreement and nothing for the biases.",
        _table(*_overall(labels, judges)),
    ]
    if labels["human_agreement"]:
        parts += ["## Where several annotators labelled a pair", _table(*_several(labels, judges))]
    for name, judge in judges.items():
        if "log_odds" in judge:
            parts += [
                f"## From the log-odds of {name} to verdicts",
                *_log_odds(judge["log_odds"], name, n=labels["pairs"]),
            ]
    if audit.get("judge_agreement"):
        parts += ["## How far the judges agree", _table(*_agreement(audit["judge_agreement"]))]
    if labels["annotators"]:
        shown = f", the {MOST_ANNOTATORS} who labelled most" if len(labels["annotators"]) > MOST_ANNOTATORS else ""
        parts += [f"## By annotator{shown}", _table(*_annotators(labels, judges))]
    for key, title in _BIN_TITLES.items():
        if labels[key]:
            parts += [f"## By {title}", _table(*_binned(key, title, labels, judges))]
    return "\n\n".join(parts) + "\n"


def _overall(labels: Mapping[str, Any], judges: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    everyone = {"labels": labels, **judges}
    n = labels["pairs"]
    rows = [
        ["accuracy against the labels", "-", *(_share(judge["accuracy"], n) for judge in judges.values())],
        ["Cohen's kappa", "-", *(_number(judge["kappa"], n) for judge in judges.values())],
        ["the longer found where labels prefer it", "-", *(_share(j["sensitivity"], n) for j in judges.values())],
        ["the shorter found where labels prefer it", "-", *(_share(j["specificity"], n) for j in judges.values())],
        ["first shown chosen (position bias)", *(_share(one["position_bias"], n) for one in everyone.values())],
        ["longer chosen (length bias)", *(_share(one["length_bias"], n) for one in everyone.values())],
        ["of them of equal length (half)", *(str(one["length_bias"]["equal_length"]) for one in everyone.values())],
        ["ties", *(str(one["ties"]) for one in everyone.values())],
        ["unparsed", "-", *(str(judge["unparsed"]) for judge in judges.values())],
        ["flip rate (both orders shown)", "-", *(_flip_rate(judge) for judge in judges.values())],
    ]
    if not judges:
        rows = [row for row in rows if row[1] != "-"]
    return ["", *everyone], rows


def _several(labels: Mapping[str, Any], judges: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    human = labels["human_agreement"]
    rows = [
        ["two annotators agree", _share(human["pairwise"])],
        ["Krippendorff's alpha of the annotators", _number(human["krippendorff_alpha"])],
    ]
    for name, judge in judges.items():
        rows.append([f"{name} agrees with an annotator", _share(judge["human_agreement"]["accuracy"])])
        rows.append([f"Cohen's kappa of {name} and an annotator", _number(judge["human_agreement"]["kappa"])])
    return ["", "value"], rows


_WAYS = {
    "as_shown": "each order by itself, disagreement is a tie (position=as_shown, offset=0)",
    "offset": "the same less an offset, fitted on the other pairs",
    "position_free": "the mean of the two orders' log-odds (position=free)",
}


def _log_odds(found: Mapping[str, Any], name: str, n: int) -> list[str]:
    rows = [
        [title, _share(found["accuracy"][way], n), _share(found["minus_as_shown"].get(way, _NONE), n)]
        for way, title in _WAYS.items()
        if way in found["accuracy"]
    ]
    offset = "the labels fit none" if found["offset"] is None else f"judge.local_llm.offset={found['offset']:.3g}"
    return [
        f"What is shown first gets {_number(found['lean_to_first'], n)} nats. Offset that all pairs fit: {offset}.",
        _table(["verdicts by", f"accuracy of {name}", "minus the first row"], rows),
        f"Better than as shown: {_WAYS.get(found['better'], found['better'])}.",
    ]


def _agreement(entries: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    rows = [[" and ".join(entry["judges"]), _share(entry["agreement"]), _number(entry["kappa"])] for entry in entries]
    return ["", "say the same (a tie half)", "Cohen's kappa"], rows


def _annotators(labels: Mapping[str, Any], judges: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    header = ["annotator", "pairs", "ties", "agrees with the others", "first shown chosen", "longer chosen"]
    header += [f"{name} agrees" for name in judges]
    rows = []
    for i, one in enumerate(labels["annotators"][:MOST_ANNOTATORS]):
        n = one["pairs"]
        shares = [one[key] for key in ("agreement", "position_bias", "length_bias")]
        shares += [judge["annotators"][i]["accuracy"] for judge in judges.values()]
        rows.append([one["annotator"], str(n), str(one["ties"]), *(_share(share, n) for share in shares)])
    return header, rows


def _binned(
    key: str, title: str, labels: Mapping[str, Any], judges: Mapping[str, Any]
) -> tuple[list[str], list[list[str]]]:
    header = [title, "pairs", "labels: longer chosen"]
    for name in judges:
        header += [f"{name}: accuracy", "kappa", "longer chosen"]
    rows = []
    for i, found in enumerate(labels[key]):
        n = found["pairs"]
        row = [found["bin"], str(n), _share(found["length_bias"], n)]
        for judge in judges.values():
            one = judge[key][i]
            row += [_share(one["accuracy"], n), _number(one["kappa"], n), _share(one["length_bias"], n)]
        rows.append(row)
    return header, rows


_NONE = {"value": None, "ci95": None, "n": 0}


def _share(estimate: Mapping[str, Any], n: int | None = None) -> str:
    return _estimate(estimate, n, lambda value: f"{100 * value:.1f}", " %")


def _number(estimate: Mapping[str, Any], n: int | None = None) -> str:
    return _estimate(estimate, n, lambda value: f"{value:.2f}", "")


def _flip_rate(judge: Mapping[str, Any]) -> str:
    return _share({"value": judge["flip_rate"], "ci95": judge["flip_rate_ci95"], "n": None})


def _estimate(estimate: Mapping[str, Any], n: int | None, shown: Any, unit: str) -> str:
    if estimate["value"] is None:
        return "-"
    ci95 = estimate["ci95"]
    interval = " [no interval]" if ci95 is None else f" [{shown(ci95[0])}, {shown(ci95[1])}]"
    return f"{shown(estimate['value'])}{unit}{interval}" + ("" if estimate["n"] == n else f" (n {estimate['n']:,})")


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    cells = [[cell.replace("|", "\\|") for cell in row] for row in (header, *rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["| " + " | ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) + " |" for row in cells]
    return "\n".join([lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]])
