"""Samples on the way through a training, judged as they are taken: how good the policy is, before the training ends.

The evaluation reads the same samples again, with every judge; what was bought or scored here costs it nothing. Shown
are the judges that can be asked beside a training: gold, the reward model that judges, and those behind an endpoint. A
local model that judges may not fit beside the trainer, and people are asked once.
"""

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any

from bench.arms import REFERENCE
from bench.errors import UserError
from bench.evaluate.judges.gold import GoldJudge
from bench.evaluate.judges.openai_compatible import OpenAIJudge
from bench.evaluate.judges.reward_model import RewardModelJudge
from bench.evaluate.win_rate import compare, win_rate
from bench.pipeline.instruments import Instruments
from bench.progress import say
from bench.train.log import Row, log_row
from bench.train.samples import Taken

if TYPE_CHECKING:
    from bench.pipeline.cells import Cell
    from bench.pipeline.live import OnRows

JUDGES = (GoldJudge, RewardModelJudge, OpenAIJudge)


class LiveSamples:
    """Called with each stage's samples; says what they are worth, and shows it where training is shown.

    Attributes:
        instruments: of the run; its folders are those of the stages finished so far.
        show: gets `<stage>_samples` and its rows so far: `step`, `kl_ref` (nats), `length_tokens`, `finished` (share),
            `gold`, `proxy`, as far as they are known (means over the posts), and `win_rate_<judge>` against the
            reference summaries.
    """

    def __init__(self, instruments: Instruments, cell: "Cell", show: "OnRows") -> None:
        self.instruments, self.cell, self.show = instruments, cell, show
        self._rows: dict[str, list[Row]] = {}
        self._asks = True

    def __call__(self, stage: str, taken: Taken) -> None:
        samples = taken.samples
        numbers = {
            "kl_ref": fmean(sample.kl for sample in samples if sample.kl is not None),
            "length_tokens": fmean(sample.n_tokens for sample in samples),
            "finished": fmean(sample.finished for sample in samples),
            **self._rewards(taken),
        }
        won = self._win_rates(stage, taken)
        self.instruments.unload()  # the trainer needs the memory
        say(_line(stage, taken, numbers, won))
        shares = {f"win_rate_{judge}": share["value"] for judge, share in won.items()}
        rows = self._rows.setdefault(stage, [])
        rows.append(log_row({"step": taken.step, **numbers, **shares}))
        self.show(f"{stage}_samples", rows)

    def _rewards(self, taken: Taken) -> dict[str, float]:
        found = {}
        if (gold := self.cell.data.gold) is not None:
            found["gold"] = fmean(gold([(sample.prompt_id, sample.completion) for sample in taken.samples]))
        if "reward" in self.instruments.folders:
            pairs = [
                (prompt.prompt, sample.completion) for prompt, sample in zip(taken.prompts, taken.samples, strict=True)
            ]
            found["proxy"] = fmean(self.instruments.rewards("reward", pairs))
        return found

    def _win_rates(self, stage: str, taken: Taken) -> dict[str, dict[str, Any]]:
        """Judge -> judged estimate. A judge that fails is asked no more on the way: the evaluation will say why."""
        config = self.cell.config
        if not (self._asks and self.cell.data.has_references):
            return {}
        texts = {sample.prompt_id: sample.completion for sample in taken.samples}
        references = {prompt.id: prompt.reference for prompt in taken.prompts}
        found = {}
        try:
            for judge in self.instruments.judges(self.cell):
                if isinstance(judge, JUDGES):
                    draws = (config.seed, config.judge.orders)
                    verdicts = compare(stage, REFERENCE, texts, references, taken.prompts, judge, *draws)
                    found[judge.name] = win_rate(verdicts, config.seed, config.evaluation.bootstrap_resamples)
        except UserError as error:
            self._asks = False
            say(f"no win rate is shown while training ({error}); the evaluation asks again")
        return found


def _line(stage: str, taken: Taken, numbers: Mapping[str, float], won: Mapping[str, Mapping[str, Any]]) -> str:
    shares = [
        f"{judge} {share['value']:.1%} [{share['ci95'][0]:.1%}, {share['ci95'][1]:.1%}]"
        for judge, share in won.items()
        if share["ci95"] is not None
    ]
    parts: Sequence[str] = [
        *([f"beats the reference summary: {', '.join(shares)}"] if shares else []),
        f"{numbers['length_tokens']:.0f} tokens",
        f"KL {numbers['kl_ref']:.2f} nats",
    ]
    return f"{stage} after {taken.step} of {taken.steps} steps, {len(taken.samples)} held-out posts: {'; '.join(parts)}"
