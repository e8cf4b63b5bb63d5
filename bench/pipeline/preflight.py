"""What can be known of a run's models and texts before anything is trained: said in a line, or refused."""

from collections.abc import Iterable

from transformers import PreTrainedTokenizerBase

from bench.arms import STAGE_BY_NAME, needed, needs_reward
from bench.config import RunConfig
from bench.encoding import encode, merges
from bench.errors import ConfigError, DataError
from bench.files import read_json
from bench.models.config import PolicyConfig
from bench.models.given import check_policy, check_reward
from bench.models.loading import content, folder_content, load_policy
from bench.pipeline.engine import Engine
from bench.progress import say
from bench.provenance import stable_hash
from bench.records import ComparisonData
from bench.stages.base import PROBE

_SAMPLE = 64  # test posts whose tokens are looked at


def contents(config: RunConfig) -> str:
    """A hash of the files of every local folder whose model the run takes: other weights are another run."""
    ours = content(config.model)
    others = [
        *(path for policy in config.policies.values() for path in (policy.path, policy.base)),
        *(config.given.sft, config.given.reward, config.given.judge_reward),
    ]
    hashes = {path: folder_content(path) for path in others if path is not None}
    return stable_hash([ours, hashes]) if any(hashes.values()) else ours


def preflight(engine: Engine) -> None:
    """Check what is given, probe the run's model and the policies trained elsewhere (each once, in its stage), and say
    the slow ways that they take.

    Raises:
        ConfigError: a model cannot be compared, or the run needs a reward model and none can be made of it.
        ResourceError: a model is neither here nor to be had.
    """
    config, given = engine.config, engine.config.given
    stages = needed(config.arms)
    elsewhere = [stage for stage in stages if stage.policy is not None]
    for stage in elsewhere:
        check_policy(f"policies.{stage.policy}", config.policies[str(stage.policy)], engine.tokenizer)
    if given.sft is not None:
        check_policy("given.sft", PolicyConfig(given.sft), engine.tokenizer)
    for key, path in (("given.reward", given.reward), ("given.judge_reward", given.judge_reward)):
        if path is not None:
            check_reward(path, key, engine.tokenizer)
            say(f"{key} is {path}: what its training cost is in no arm's cost")
    sample = engine.data.eval_prompts[:_SAMPLE]
    if merged := sum(merges(engine.tokenizer, row.prompt, row.reference) for row in sample):
        say(
            f"{config.model.name}: its tokenizer merges the end of {merged} of {len(sample)} prompts into the summary;"
            " both are tokenised alone, as in sampling"
        )
    for stage in (STAGE_BY_NAME["base"], *elsewhere):
        found = read_json(engine.finished(stage).folder / PROBE)
        for line in found["said"]:
            say(line)
        if stage.policy is None and found["no_reward"] and _trains_reward(config):
            raise ConfigError(
                f"model {config.model.name} gives no reward model: {found['no_reward']}; leave out the arms that need"
                " one and the judge reward_model, or choose another model"
            )
    if any(settings.lora_4bit for settings in config.learning):
        from bench.train.lora import require_4_bits  # takes long to import, and few have what it needs

        require_4_bits(load_policy(engine.finished(STAGE_BY_NAME["base"]).folder, engine.device))


def require_fits(
    data: ComparisonData, tokenizer: PreTrainedTokenizerBase, prompt_tokens: int, positions: int | None
) -> None:
    """Every row that is trained on or scored must fit the model's positions: prompts were cut, summaries are not.

    Args:
        prompt_tokens: that no prompt has more of.

    Raises:
        DataError: names the row that is longest beyond.
    """
    if positions is None:
        return
    # A token is at least a byte: most rows need no count. Two more are the space and the EOS.
    long = {row for row in _rows(data) if prompt_tokens + len(row[2].encode()) + 2 > positions}
    lengths = {row: sum(map(len, encode(tokenizer, *row[1:])[0])) for row in sorted(long)}
    if lengths and max(lengths.values()) > positions:
        row = max(lengths, key=lengths.__getitem__)
        raise DataError(
            f"{row[0]}: prompt and summary are {lengths[row]} tokens, but the model has {positions} positions; shorten"
            " the summary, lower budget.max_prompt_tokens, or choose a model with a longer context"
        )


def _rows(data: ComparisonData) -> Iterable[tuple[str, str, str]]:
    """(which, prompt, summary)."""
    for split, demonstrations in data.demonstrations.items():
        yield from ((f"demonstration {d.id} ({split})", d.prompt, d.completion) for d in demonstrations)
    for split, pairs in data.preferences.items():
        for pair in pairs:
            yield f"pair {pair.id} ({split}), chosen", pair.prompt, pair.chosen
            yield f"pair {pair.id} ({split}), rejected", pair.prompt, pair.rejected
    yield from ((f"test post {p.id}, reference", p.prompt, p.reference) for p in data.eval_prompts)


def _trains_reward(config: RunConfig) -> bool:
    """Whether the run makes a reward model of its SFT model, and is not given one."""
    for_arms = needs_reward(config.arms) and config.given.reward is None
    return for_arms or ("reward_model" in config.judge.names and config.given.judge_reward is None)
