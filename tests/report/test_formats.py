"""What a report is written as beside a page: numbers to compute with, tables and figures for a paper."""

import pandas as pd
import pytest

from bench import report
from bench.report.__main__ import main
from bench.report.formats import write_report
from bench.report.latex import escape, to_latex
from bench.report.page import Figures, Page, Section, Table, Text
from bench.report.plot import Plot, new_axes
from bench.report.words import Cell

PAGE = Page(
    title="A report",
    subtitle="of 50 % & more",
    answer=[],
    sections=[
        Section(
            "The results",
            [
                Text("not a table"),
                Table(
                    "Arms_of 2 judges",
                    ["arm", "win rate (%)", "KL"],
                    [
                        [Cell("DPO"), Cell("55.9 %", "[49.8, 61.8]"), Cell("2.11")],
                        [Cell("[a&b]"), Cell("[1]"), Cell("\u2013")],
                    ],
                    "A note: 5 < 6.",
                ),
                Table("Nothing in it", ["arm"], []),
            ],
        )
    ],
)


def test_a_table_pastes_into_a_paper():
    assert (
        to_latex(PAGE).split("\n", 3)[3]
        == r"""
\begin{table}
\centering
\caption{Arms\_of 2 judges.}
\label{tab:the-results-1}
\begin{tabular}{llr}
\toprule
arm & win rate (\%) & KL \\
\midrule
DPO & 55.9 \% {\footnotesize [49.8, 61.8]} & 2.11 \\
{}[a\&b] & [1] & -- \\
\bottomrule
\end{tabular}
\par\smallskip A note: 5 \textless{} 6.
\end{table}
""".lstrip("\n")
    )


def test_no_text_is_markup_in_latex():
    assert escape("\\input{x} $a_b^c$ #1 ~ 100%") == (
        r"\textbackslash{}input\{x\} \$a\_b\textasciicircum{}c\$ \#1 \textasciitilde{} 100\%"
    )
    assert (
        escape("a \u2264 b \u00b1 c\n\u202ed\ud800")
        == r"a $\leq$ b $\pm$ c \textbackslash{}u202ed\textbackslash{}ud800"
    )


def test_figures_are_files_of_their_kind_and_the_same_when_made_again(tmp_path):
    def page() -> Page:
        figure, axes = new_axes()
        axes.plot([1, 2], [3, 4])
        return Page("t", "s", [], [Section("S", [Figures([Plot("line", "a line", "alt", figure, "caption")])])])

    paths = [write_report(page(), [], tmp_path / name, ("pdf", "png")) for name in ("a", "b")]

    assert paths[0] == tmp_path / "a" / "figures"
    assert sorted(file.name for file in paths[0].iterdir()) == ["line.pdf", "line.png"]
    for name, start in (("line.pdf", b"%PDF-"), ("line.png", b"\x89PNG")):
        first, again = ((path / name).read_bytes() for path in paths)
        assert first.startswith(start) and first == again


@pytest.mark.slow
def test_the_command_writes_what_is_asked_for(make_run, tmp_path, capsys):
    folder = make_run()
    assert main([str(folder), "--format", "csv,latex", "--out", str(tmp_path / "paper")]) == 0

    assert capsys.readouterr().out.splitlines()[-1] == str(tmp_path / "paper" / "numbers.csv")
    assert sorted(file.name for file in (tmp_path / "paper").iterdir()) == ["numbers.csv", "tables.tex"]
    run = report.load_run(folder)
    absent = dict.fromkeys(("temperature", "value", "low", "high", "n"), "")
    read = pd.read_csv(tmp_path / "paper" / "numbers.csv", keep_default_na=False, na_values=absent)
    pd.testing.assert_frame_equal(read, report.tidy(run), check_dtype=False)
    win_rate = run.metrics["arms"]["dpo"]["win_rate"]["gold"]["value"]
    assert f"DPO & {100 * win_rate:.1f} \\%" in (tmp_path / "paper" / "tables.tex").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_command_writes_the_numbers_of_a_comparison(make_run, tmp_path):
    folders = [str(make_run(f"b{beta}", dpo_beta=beta)) for beta in (0.1, 0.5)]
    assert main([*folders, "--format", "csv", "--out", str(tmp_path / "both")]) == 0
    table = pd.read_csv(tmp_path / "both" / "numbers.csv")
    assert set(table["run"]) == {"b0.1", "b0.5"}


def test_a_format_that_there_is_not_is_refused(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["anywhere", "--format", "html,docx"])
    assert stopped.value.code == 2
    assert "'docx' is none of html, md, csv, latex, png, pdf" in capsys.readouterr().err
