"""Samples that trainers took on the way, scored and judged like those of finished policies."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from bench.arms import REFERENCE
from bench.evaluate.in_training import Moment, by_step
from bench.evaluate.win_rate import points_by_prompt
from bench.files import write_jsonl
from bench.records import Completion, EvalPrompt

if TYPE_CHECKING:
    from bench.pipeline.evaluation import Evaluation

Watched = Mapping[str, Sequence[Mapping[str, Any]]]
"""Arm -> the rows that its trainer left (`bench.train.samples`)."""


class _Sampled(NamedTuple):
    """One arm's samples after one step, and the posts that they are of."""

    arm: str
    step: int
    samples: list[Completion]
    prompts: list[EvalPrompt]

    @property
    def texts(self) -> tuple[str, dict[str, str]]:
        return f"{self.arm}_step_{self.step}", {sample.prompt_id: sample.completion for sample in self.samples}

    @property
    def references(self) -> tuple[str, dict[str, str]]:
        return REFERENCE, {prompt.id: prompt.reference for prompt in self.prompts}


def moments(evaluation: "Evaluation", watched: Watched) -> dict[str, list[Moment]]:
    """Arm -> its samples by step, with their rewards and their verdicts against the reference summaries."""
    posts = {
        d.id: EvalPrompt(d.id, d.prompt, d.completion) for d in evaluation.data.demonstrations.get("validation", [])
    }
    sampled = list(_by_step(watched, posts))
    evaluation.ask_ahead([(of.texts[1], of.references[1], of.prompts) for of in sampled])
    found: dict[str, list[Moment]] = {}
    for of in sampled:
        rewards = evaluation.rewards(of.samples, of.prompts)
        verdicts = evaluation.judged(of.texts, of.references, of.prompts)
        found.setdefault(of.arm, []).append(Moment(of.step, of.samples, rewards, verdicts))
    return found


def _by_step(watched: Watched, posts: Mapping[str, EvalPrompt]) -> Iterator[_Sampled]:
    for arm, rows in watched.items():
        for step, samples in by_step(rows).items():
            yield _Sampled(arm, step, samples, [posts[sample.prompt_id] for sample in samples])


def write_moments(folder: Path, moments: Mapping[str, Sequence[Moment]]) -> None:
    """`<arm>.jsonl`, a row for each sample: what was sampled, its rewards, and its points by each judge."""
    for arm, of_arm in moments.items():
        rows = []
        for moment in of_arm:
            points = {judge: points_by_prompt(verdicts) for judge, verdicts in moment.verdicts.items()}
            for place, sample in enumerate(moment.samples):
                rows.append(
                    {
                        "step": moment.step,
                        **asdict(sample),
                        "reward": {kind: values[place] for kind, values in moment.rewards.items()},
                        "points": {judge: of_judge.get(sample.prompt_id) for judge, of_judge in points.items()},
                    }
                )
        write_jsonl(folder / f"{arm}.jsonl", rows)
