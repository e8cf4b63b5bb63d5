"""Every figure there is, by the question that it answers, and a page that shows what given runs have of them."""

import inspect
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from bench.files import write_text
from bench.report import duel_over_seeds, gains, over_seeds, tuned
from bench.report.claims_over_runs import best_judge
from bench.report.compare import check_comparable
from bench.report.frontier import at_equal, matched
from bench.report.load import Run, load_run, records
from bench.report.over_beta import kl_vs_beta, reward_kl_points, win_rate_vs_beta
from bench.report.over_cost import win_rate_vs_cost
from bench.report.page import Block, Figures, Note, Page, Section, Text, to_html
from bench.report.plot import Plot, drawn
from bench.report.policies import policy_points
from bench.report.sections import (
    best_of_n,
    cost,
    grid,
    head_to_head,
    judges,
    length,
    overoptimisation,
    results,
    reward_model,
    training,
)


class Drawing(NamedTuple):
    """A figure, or one per judge or stage: what draws it, the question that it answers, and what it needs.

    `draw` takes a run, or all of them where `of_runs`, and calls `function` for each judge or stage that there is.
    """

    function: Callable[..., object]
    question: str
    needs: str
    draw: Callable[[Any], Iterable[Plot | None]]
    of_runs: bool = False

    @property
    def path(self) -> str:
        function = inspect.unwrap(self.function)
        return f"{function.__module__}.{function.__name__}"

    def of(self, runs: Sequence[Run]) -> list[Plot]:
        """What there is to draw of the runs, of the first one where one is enough."""
        return drawn([*self.draw(runs if self.of_runs else runs[0])])


def _per_judge(draw: Callable[[Sequence[Run], str], Plot | None]) -> Callable[[Sequence[Run]], list[Plot | None]]:
    return lambda runs: [draw(runs, judge) for judge in runs[0].judges]


def _of_seeds(
    draw: Callable[[Any, Any, str], Plot | None],
    summaries: Callable[[Sequence[Run]], Any],
    points: Callable[[Sequence[Run]], Any],
) -> Callable[[Sequence[Run]], list[Plot | None]]:
    def of(runs: Sequence[Run]) -> list[Plot | None]:
        groups = over_seeds.groups_of_seeds(runs)
        if len(groups) != 1:
            return []
        (group,) = groups
        return [draw(summaries(group), points(group), judge) for judge in group[0].judges]

    return of


def _at_equal_kl(runs: Sequence[Run]) -> list[Plot]:
    judge = best_judge(runs)
    found = matched(runs, judge) if judge else None
    return [at_equal(found, judge)] if judge and found and not found["reason"] else []


def _over_temperatures(run: Run) -> list[Plot | None]:
    sets = list(dict.fromkeys(of_set for of_set, _, _ in grid.cells(run)))
    return [grid.win_rate_vs_temperature(run, of_set, judge) for of_set in sets for judge in run.judges]


FIGURES = (
    Drawing(results.win_rates, "How often is the reference summary beaten?", "a judge", results.win_rates),
    Drawing(
        length.length_distributions,
        "How long are the summaries?",
        "completions/ in the run folder",
        lambda run: [length.length_distributions(run)],
    ),
    Drawing(length.win_rate_by_length, "Is it length that wins?", "a judge", length.win_rate_by_length),
    Drawing(head_to_head.pairwise_matrix, "Who beats whom?", "three arms", head_to_head.pairwise_matrix),
    Drawing(head_to_head.strengths, "How strong is every arm, over all pairs?", "a judge", head_to_head.strengths),
    Drawing(
        grid.win_rate_vs_temperature,
        "How does the win rate depend on the sampling temperature (Figure 2, right)?",
        "evaluation.temperatures, two or more",
        _over_temperatures,
    ),
    Drawing(
        overoptimisation.rollouts_over_kl,
        "What did PPO's rollouts gain on the way?",
        "PPO in the built-in world",
        lambda run: [overoptimisation.rollouts_over_kl(run)],
    ),
    Drawing(
        overoptimisation.gain_plots,
        "What did PPO and DPO gain on the way, by the proxy and by the truth?",
        "samples_in_training.points",
        overoptimisation.gain_plots,
    ),
    Drawing(
        best_of_n.best_of_n_curve,
        "What does the reward model do without training a policy?",
        "the arm best_of_n",
        lambda run: [best_of_n.best_of_n_curve(run)],
    ),
    Drawing(cost.cost_bars, "What does each stage cost?", "a trained arm", lambda run: [cost.cost_bars(run)]),
    Drawing(
        cost.memory_by_stage,
        "What memory does each stage need?",
        "a trained arm",
        lambda run: [cost.memory_by_stage(run)],
    ),
    Drawing(
        training.training_plots,
        "How did training go?",
        "training/ in the run folder",
        lambda run: [plot for stage in run.training for plot in training.training_plots(run, stage)],
    ),
    Drawing(judges.judge_agreement, "Do the judges agree?", "two judges", judges.judge_agreement),
    Drawing(
        reward_model.calibration_curves,
        "Does a reward model mean what it says?",
        "a reward model",
        lambda run: [reward_model.calibration_curves(run)],
    ),
    Drawing(
        reward_kl_points,
        "What reward does the distance from the SFT model buy (Figure 2, left)?",
        "a trained arm; several betas for a frontier",
        lambda runs: [reward_kl_points(policy_points(runs), overoptimisation.best_of_n_rows(runs[0]))],
        of_runs=True,
    ),
    Drawing(
        win_rate_vs_cost,
        "What does the device time buy?",
        "a trained arm",
        _per_judge(lambda runs, judge: win_rate_vs_cost(policy_points(runs), judge)),
        of_runs=True,
    ),
    Drawing(
        win_rate_vs_beta,
        "How does the win rate depend on beta?",
        "runs of two betas",
        _per_judge(lambda runs, judge: win_rate_vs_beta(policy_points(runs), judge)),
        of_runs=True,
    ),
    Drawing(
        kl_vs_beta,
        "How does KL depend on beta?",
        "runs of two betas",
        lambda runs: [kl_vs_beta(policy_points(runs))],
        of_runs=True,
    ),
    Drawing(
        at_equal,
        "Who wins at equal KL?",
        "runs of two settings of DPO and of PPO, with completions/ and verdicts/",
        _at_equal_kl,
        of_runs=True,
    ),
    Drawing(
        gains.gain_figures,
        "Are policies over-optimised?",
        "runs of three betas, or samples_in_training.points",
        lambda runs: gains.gain_figures(runs, records(policy_points(runs))),
        of_runs=True,
    ),
    Drawing(
        duel_over_seeds.duel_forest,
        "Does DPO beat PPO in every seed?",
        "runs that differ in their seed",
        _of_seeds(duel_over_seeds.duel_forest, duel_over_seeds.duel_summaries, duel_over_seeds.duel_points),
        of_runs=True,
    ),
    Drawing(
        over_seeds.win_rate_over_seeds,
        "How much do seeds scatter?",
        "runs that differ in their seed",
        _of_seeds(over_seeds.win_rate_over_seeds, over_seeds.seed_summaries, over_seeds.seed_points),
        of_runs=True,
    ),
    Drawing(
        tuned.trials_figure,
        "What did tuning find?",
        "trials (experiment=tuned)",
        _per_judge(tuned.trials_figure),
        of_runs=True,
    ),
)
"""Of a run, then of several."""


def render_gallery(run_dirs: Sequence[Path | str], out_dir: Path | str) -> Path:
    """Write gallery.html, every figure of FIGURES that the runs give, into `out_dir`; returns its path.

    Raises:
        RunFolderError: a folder holds no finished run, or two runs may not be compared (`check_comparable`).
        ResourceError: `out_dir` cannot be written.
    """
    runs = [load_run(folder) for folder in run_dirs]
    check_comparable(runs)
    path = Path(out_dir) / "gallery.html"
    write_text(path, to_html(gallery_page(runs)))
    return path


def gallery_page(runs: Sequence[Run]) -> Page:
    """A section for every figure: its question, the function that draws it, and the picture or what it needs."""
    how_many = "1 run" if len(runs) == 1 else f"{len(runs)} runs, figures of one run being of {runs[0].path.name}"
    return Page(
        title="Every figure of the reports",
        subtitle=how_many,
        answer=[f"{len(FIGURES)} kinds of figures; each names the function that draws it, and what it needs."],
        sections=[Section(drawing.question, _blocks(drawing, runs)) for drawing in FIGURES],
    )


def _blocks(drawing: Drawing, runs: Sequence[Run]) -> list[Block]:
    plots = drawing.of(runs)
    words = Text(f"{drawing.path}; needs {drawing.needs}.")
    return [words, Figures(plots) if plots else Note("These runs give nothing to draw here.")]
