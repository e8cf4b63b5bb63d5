"""The evaluation's axes: which prompts (an evaluation set), sampled at which temperature. Judges are the third axis.

The headline is one cell: the run's own test posts at `sampling.temperature`. The others, the grid, are every
evaluation set at every temperature; no cell trains anything, and none is sampled or scored again for another's sake.
"""

from dataclasses import dataclass, replace

from transformers import PreTrainedTokenizerBase

from bench.config import RunConfig
from bench.data import load, split_seed, subsample, truncate_prompts, without_written_eos
from bench.data.evaluation_sets import EvalSetConfig
from bench.data.splits import SplitLimits, one_per_post, shared_posts
from bench.errors import DataError
from bench.evaluate.known_reward import KnownReward
from bench.models.loading import base_context_length
from bench.pipeline.fits import require_fits
from bench.progress import say
from bench.records import ComparisonData, EvalPrompt

TEST = "test"
"""The name of the headline's set."""


@dataclass(frozen=True)
class Cell:
    """One evaluation: the config and the data that its completions and its numbers are made with.

    Attributes:
        set: the evaluation set's name.
        config: the run's, with this temperature and the judges' prompts for this kind of text.
        data: the run's, with this set's prompts, and its gold reward where that is known.
    """

    set: str
    temperature: float
    config: RunConfig
    data: ComparisonData

    @property
    def name(self) -> str:
        return f"{self.set}-t{self.temperature:g}"

    def with_pairs(self, data: ComparisonData) -> "Cell":
        """The cell with the preference pairs of `data`, which were still to be made."""
        return replace(self, data=replace(self.data, preferences=data.preferences, awaits_labels=data.awaits_labels))


def headline_of(config: RunConfig, data: ComparisonData) -> Cell:
    """The run's own test posts at `sampling.temperature`."""
    return Cell(TEST, config.sampling.temperature, config, data)


def cells(config: RunConfig, data: ComparisonData, tokenizer: PreTrainedTokenizerBase) -> tuple[Cell, tuple[Cell, ...]]:
    """The headline, and the grid: all other cells, set by set from the lowest temperature to the highest.

    Args:
        data: the run's, cut to its budget.

    Raises:
        DataError: an evaluation set has no prompts, shares posts with the training data, or does not fit the model.
    """
    headline = headline_of(config, data)
    others = {name: _of_set(name, wanted, config, data, tokenizer) for name, wanted in config.sets.items()}
    sets = {TEST: data, **others}
    temperatures = sorted({config.sampling.temperature, *config.evaluation.temperatures})
    grid = [
        Cell(name, temperature, _config(config, config.sets.get(name), of_set, temperature), of_set)
        for name, of_set in sets.items()
        for temperature in temperatures
    ]
    return headline, tuple(cell for cell in grid if (cell.set, cell.temperature) != (TEST, headline.temperature))


def _config(config: RunConfig, wanted: EvalSetConfig | None, data: ComparisonData, temperature: float) -> RunConfig:
    watching = config.samples_in_training
    judge = config.judge if wanted is None or wanted.text == "post" else config.judge.about(wanted.text)
    if data.gold is None and "gold" in judge.names:  # there it has no truth to judge by
        judge = replace(judge, names=tuple(name for name in judge.names if name != "gold"), panel=None)
        watching = replace(watching, keep_best=None)  # chosen is once, for the headline
    return replace(
        config, judge=judge, samples_in_training=watching, sampling=replace(config.sampling, temperature=temperature)
    )


def _of_set(
    name: str, wanted: EvalSetConfig, config: RunConfig, data: ComparisonData, tokenizer: PreTrainedTokenizerBase
) -> ComparisonData:
    source = data if wanted.data is None else load(wanted.data, config.seed)
    prompts = source.eval_prompts if wanted.split == "test" else validation_prompts(source)
    if not prompts:
        raise DataError(f"evaluation set {name} has no prompts: its data has no {wanted.split} posts with a summary")
    alone = replace(source, demonstrations={}, preferences={}, eval_prompts=prompts, trivial_policies={})
    limit = SplitLimits(eval_prompts=wanted.prompts or config.budget.eval_prompts)
    seed = split_seed(wanted.data or config.data, config.seed)
    alone = without_written_eos(subsample(alone, limit, seed), str(tokenizer.eos_token))
    most = config.budget.max_prompt_tokens
    alone, cut = truncate_prompts(alone, most, lambda text: len(tokenizer(text).input_ids))
    if wanted.data is not None:
        _require_unseen(name, alone.eval_prompts, data)
        require_fits(alone, tokenizer, most, base_context_length(config.model), f"evaluation set {name}, ")
    say(f"evaluation set {name}: {len(alone.eval_prompts)} prompts" + (f", {cut} of them cut to fit" if cut else ""))
    gold = source.gold
    if gold is None and isinstance(data.gold, KnownReward):  # a scorer of texts scores those of any source
        gold = data.gold.of(alone.eval_prompts)
    return replace(data, eval_prompts=alone.eval_prompts, gold=gold, trivial_policies={})


def validation_prompts(data: ComparisonData) -> list[EvalPrompt]:
    """The posts of the validation demonstrations, with what people wrote of them: to choose settings on."""
    return one_per_post(EvalPrompt(d.id, d.prompt, d.completion) for d in data.demonstrations.get("validation", []))


def _require_unseen(name: str, prompts: list[EvalPrompt], data: ComparisonData) -> None:
    seen = [row.prompt for row in (*data.demonstrations.get("train", []), *data.preferences.get("train", []))]
    if shared := shared_posts({prompt.id: prompt.prompt for prompt in prompts}, seen):
        raise DataError(
            f"evaluation set {name} shares {len(shared)} posts with the training data (the first is {shared[0]!r});"
            " take other data, or leave them out of it"
        )
