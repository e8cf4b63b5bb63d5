"""Finished models as instruments of the evaluator, each loaded when it is first asked and shared by all cells."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import PreTrainedTokenizerBase

from bench.arms import BY_NAME, START, policy_stage
from bench.encoding import completion_lengths
from bench.evaluate.judges.base import Judge
from bench.evaluate.judges.factory import build_judges
from bench.evaluate.judges.local_llm import LocalLLMJudge
from bench.evaluate.text_models import TextModels
from bench.models.loading import load_policy, load_reward_model
from bench.pipeline.checksums import CHECKSUMS, content
from bench.pipeline.memo import Memo
from bench.reach import code_key
from bench.records import EvalPrompt
from bench.scoring import reward_scores, summed_logps

if TYPE_CHECKING:
    from bench.config import RunConfig
    from bench.pipeline.cells import Cell


class Instruments:
    """What a run measures with.

    Attributes:
        folders: stage -> where it left its model; may grow, as stages are finished.
        dtype: of models that are not trained.
        cache_dir: of bought verdicts, and of models that come in a package.
    """

    def __init__(
        self,
        config: "RunConfig",
        folders: Mapping[str, Path],
        tokenizer: PreTrainedTokenizerBase,
        device: torch.device,
        dtype: torch.dtype,
        cache_dir: Path,
    ) -> None:
        self.config, self.folders, self.tokenizer = config, folders, tokenizer
        self.device, self.dtype, self.cache_dir = device, dtype, cache_dir
        self.memo = Memo(cache_dir / "evaluated", code_key("bench.pipeline.evaluation"))
        self._scorers: dict[str, Any] = {}
        self._scores: dict[tuple[str, str, str], float] = {}
        self._judges: dict[str, list[Judge]] = {}
        self._reference_lengths: dict[EvalPrompt, int] = {}

    def judges(self, cell: "Cell") -> list[Judge]:
        """The judges of a cell's set: they know its truth, are asked about its kind of text, and remember what they
        have said at another temperature."""
        if cell.set not in self._judges:
            by_reward = "reward_model" in cell.config.judge.names
            self._judges[cell.set] = build_judges(
                cell.config.judge,
                gold=cell.data.gold,
                reward_score=self._judge_score if by_reward else None,
                cache_dir=self.cache_dir,
                seed=cell.config.seed,
            )
        return self._judges[cell.set]

    def rewards(self, stage: str, summaries: Sequence[tuple[str, str]]) -> list[float]:
        """The scores of (prompt, summary) by the reward model that `stage` left; each is scored once."""
        if new := [pair for pair in dict.fromkeys(summaries) if (stage, *pair) not in self._scores]:
            scores = self.memo("scores", [*self._version(stage), new], lambda: self._rewards(stage, new))
            self._scores |= {(stage, *pair): score for pair, score in zip(new, scores, strict=True)}
        return [self._scores[stage, *pair] for pair in summaries]

    def logratios(self, summaries: Sequence[tuple[str, str]]) -> list[float]:
        """log pi_DPO - log pi_SFT of each (prompt, summary), in nats."""
        keep_best = self.config.samples_in_training.keep_best
        policy, ref = (
            self.memo("logps", [*self._version(stage), summaries], lambda stage=stage: self._logps(stage, summaries))
            for stage in (policy_stage(BY_NAME["dpo"], keep_best), START)
        )
        return [x - y for x, y in zip(policy, ref, strict=True)]

    @contextmanager
    def judge(self, cell: "Cell", name: str) -> Iterator[Judge]:
        """One judge of a cell, by its name; afterwards its model is left: a trainer may come next."""
        try:
            yield next(judge for judge in self.judges(cell) if judge.name == name)
        finally:
            self.unload()

    def unload(self) -> None:
        """Leave the models; what they said is remembered."""
        self._scorers.clear()
        for judge in chain.from_iterable(self._judges.values()):
            if isinstance(judge, LocalLLMJudge):
                judge.unload()

    def reference_lengths(self, prompts: Sequence[EvalPrompt]) -> list[int]:
        """Tokens of the reference summaries behind their prompts, EOS included; each is counted once for all cells."""
        known = self._reference_lengths
        if new := [prompt for prompt in prompts if prompt not in known]:
            lengths = completion_lengths(self.tokenizer, [p.prompt for p in new], [p.reference for p in new])
            known |= zip(new, lengths, strict=True)
        return [known[prompt] for prompt in prompts]

    @cached_property
    def models(self) -> TextModels:
        return text_models(self.config, self.device, self.cache_dir)

    def _version(self, stage: str) -> tuple[str, str | None]:
        """Folder and content: a stage that was damaged and made again may have come out otherwise."""
        folder = self.folders[stage]
        return folder.name, content(folder) if (folder / CHECKSUMS).exists() else None

    def _rewards(self, stage: str, summaries: Sequence[tuple[str, str]]) -> list[float]:
        if stage not in self._scorers:
            self._scorers[stage] = load_reward_model(self.folders[stage], self.device, self.dtype)
        return reward_scores(self._scorers[stage], self.tokenizer, summaries, self.config.sampling.batch_size)

    def _logps(self, stage: str, summaries: Sequence[tuple[str, str]]) -> list[float]:
        if stage not in self._scorers:
            self._scorers[stage] = load_policy(self.folders[stage], self.device, self.dtype)
        return summed_logps(self._scorers[stage], self.tokenizer, summaries, self.config.sampling.batch_size)

    def _judge_score(self, summaries: Sequence[tuple[str, str]]) -> list[float]:
        return self.rewards("judge_reward", summaries)


def text_models(config: "RunConfig", device: torch.device, cache_dir: Path) -> TextModels:
    """The models that metrics of summaries need, none of them loaded yet."""
    evaluation = config.evaluation
    return TextModels(
        {"embedding_model": evaluation.embedding_model, "nli_model": evaluation.nli_model}, device, cache_dir
    )
