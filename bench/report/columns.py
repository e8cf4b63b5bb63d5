"""Columns of a report's tables: what each is called, and how a row's number is written in it."""

from collections.abc import Callable, Container, Iterable, Sequence
from typing import NamedTuple

from bench.report.load import NOT_TRAINED
from bench.report.page import Table
from bench.report.words import (
    NONE,
    Cell,
    Row,
    arm_name,
    count,
    estimate,
    has,
    is_number,
    judge_name,
    number,
    points,
    share,
    time_unit,
)

TONES = {"supported": "good", "contradicted": "bad"}


class Column(NamedTuple):
    """`reads` names the number that it shows: where no row has one the column is left out. Empty: always shown."""

    title: str
    write: Callable[[Row], Cell]
    reads: str = ""


def table_of(caption: str, columns: Iterable[Column], rows: Sequence[Row], note: str = "") -> Table:
    """A table with those of `columns` that have something to show."""
    shown = [column for column in columns if not column.reads or has(rows, column.reads)]
    cells = [[column.write(row) for column in shown] for row in rows]
    return Table(caption, [column.title for column in shown], cells, note)


ARM = Column("arm", lambda row: Cell(marked_arm(row)))
JUDGE = Column("judge", lambda row: Cell(marked_judge(row["judge"], row.get("judge_fails") is True)))
PAIR = Column(
    "pair", lambda row: Cell(f"{arm_name(row['arm_a'], short=True)} against {arm_name(row['arm_b'], short=True)}")
)


def marked_arm(row: Row) -> str:
    """The arm's short name, and whether it collapsed."""
    name = arm_name(row["arm"], short=True)
    return f"{name}, collapsed" if row.get("collapsed") is True else name


def marked_judge(judge: str, fails: bool) -> str:
    """The judge's name, and whether it fails a check (`distrust.failed_checks`)."""
    return f"{judge_name(judge)}, which fails a check" if fails else judge_name(judge)


def text_column(name: str, title: str) -> Column:
    return Column(title, lambda row: Cell(str(row[name])) if is_number(row.get(name)) else Cell(NONE), name)


def count_column(name: str, title: str) -> Column:
    return Column(title, lambda row: Cell(count(row.get(name))), name)


def estimate_column(name: str, title: str, digits: int | None = None) -> Column:
    return Column(title, lambda row: estimate(row, name, digits), name)


def share_column(name: str, title: str, with_n: bool = False) -> Column:
    return Column(title, lambda row: share(row, name, with_n), name)


def points_column(name: str, title: str) -> Column:
    """A difference of two shares, in points of per cent."""
    return Column(title, lambda row: points(row, name), name)


def spread_column(name: str, title: str) -> Column:
    """The sd of shares, in points; none where there is one of them alone."""

    def write(row: Row) -> Cell:
        return Cell(number(100 * row[name], 1)) if is_number(row.get(name)) else Cell(NONE)

    return Column(f"{title} (points)", write, name)


def p_column(name: str, title: str) -> Column:
    return Column(title, lambda row: Cell(p_value(row.get(name))), name)


def p_value(value: float | None) -> str:
    if value is None or not is_number(value):
        return NONE
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def verdict(word: str) -> Cell:
    """`supported`, `contradicted` or `not decided at this n`, in its colour."""
    return Cell(word, tone=TONES.get(word, "open"))


def win_rate_columns(judges: Sequence[str], with_n: bool = False, failed: Container[str] = ()) -> list[Column]:
    """The win rate against the reference summary by each judge; those that failed a check say so."""
    return [
        share_column(f"win_rate_{judge}", f"win rate, {marked_judge(judge, judge in failed)}", with_n)
        for judge in judges
    ]


def cost_column(name: str, title: str) -> Column:
    """What an arm costs beyond the SFT model, which means nothing for an arm that is not trained beyond it."""
    return Column(title, lambda row: Cell(NONE) if row["arm"] in NOT_TRAINED else estimate(row, name), name)


def time_column(name: str, title: str, rows: Sequence[Row]) -> Column:
    """`cost_column` of hours, in the unit that fits the rows."""
    unit = time_unit(row[name] for row in rows if row["arm"] not in NOT_TRAINED and is_number(row.get(name)))

    def write(row: Row) -> Cell:
        return Cell(NONE) if row["arm"] in NOT_TRAINED or not is_number(row.get(name)) else Cell(unit.write(row[name]))

    return Column(f"{title} ({unit.sign})", write, name)


def _kl(row: Row) -> Cell:
    bound = row.get("kl_ref_estimator") == "bound"
    return Cell(f"at most {number(row['kl_ref'], 2)}") if bound else estimate(row, "kl_ref", 2)


KL = Column("KL to SFT (nats)", _kl, "kl_ref")
LENGTHS = (
    estimate_column("length_tokens", "length (tokens)", 1),
    estimate_column("length_words", "length (words)", 1),
)
BESIDE = (
    estimate_column("rougeL", "ROUGE-L", 3),
    estimate_column("kl_ref_median", "KL, median", 2),
    share_column("kl_ref_top_share", "share of the KL in the top 1 %"),
    estimate_column("reward_gold", "gold reward", 2),
    estimate_column("reward_proxy", "proxy reward", 2),
)
MEASURES = (KL, *BESIDE, *LENGTHS)
"""Of `arm_table` and `policies.policy_points`, in every table of arms."""
