"""What a report is written as beside a page: numbers to compute with, tables and figures for a paper."""

import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest

from bench import report
from bench.report.__main__ import main
from bench.report.formats import write_report
from bench.report.latex import escape, to_latex
from bench.report.page import Figures, Page, Section, Table, Text
from bench.report.plot import Plot, new_axes
from bench.report.render import run_page
from bench.report.words import Cell

REFERENCE = Path(__file__).parents[2] / "results" / "reference"
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
                    ["arm", "win rate (%), gold judge", "KL", "why"],
                    [
                        [
                            Cell("DPO"),
                            Cell("56 %", "[4, 9]"),
                            Cell("2.11"),
                            Cell("a_b", "or c"),
                        ],
                        [Cell("[a&b]"), Cell("[1]"), Cell("\u2013"), Cell("deadbeef" * 6)],
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
\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%
\begin{tabular}{llrp{.4\linewidth}}
\toprule
arm & \begin{tabular}[b]{@{}l@{}}win rate (\%),\\gold judge\end{tabular} & KL & why \\
\midrule
DPO & \begin{tabular}[t]{@{}l@{}}56 \%\\\footnotesize [4, 9]\end{tabular} & 2.11 & a\_b \newline {\footnotesize or c} \\
{}[a\&b] & [1] & -- & deadbeefdeadbe\hspace{0pt}efdeadbeefdead\hspace{0pt}beefdeadbeefde\hspace{0pt}adbeef \\
\bottomrule
\end{tabular}}
\par\smallskip {\footnotesize\raggedright A note: 5 \textless{} 6.\par}
\end{table}
""".lstrip("\n")
    )


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="there is no pdflatex")
def test_no_table_of_a_published_report_is_wider_than_the_line(tmp_path):
    (tmp_path / "tables.tex").write_text(to_latex(run_page(report.load_run(REFERENCE / "builtin"))), encoding="utf-8")
    packages = r"\usepackage{booktabs,graphicx}\usepackage[T1]{fontenc}"
    paper = rf"\documentclass{{article}}{packages}\begin{{document}}\input{{tables}}\end{{document}}"
    (tmp_path / "paper.tex").write_text(paper)
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"]
    outcome = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert outcome.returncode == 0 and "Overfull" not in outcome.stdout, outcome.stdout[-2000:]


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
    tables = (tmp_path / "paper" / "tables.tex").read_text(encoding="utf-8")
    assert rf"DPO & \begin{{tabular}}[t]{{@{{}}r@{{}}}}{100 * win_rate:.1f} \%\\" in tables


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
