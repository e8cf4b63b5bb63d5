"""What can be known of a run's models and texts before anything is trained: said in a line, or refused."""

from bench.arms import STAGE_BY_NAME, needed, needs_reward
from bench.config import RunConfig
from bench.data import ControlledConfig
from bench.encoding import merges
from bench.errors import ConfigError
from bench.evaluate.judges.config import LocalLLMJudgeConfig
from bench.files import read_json
from bench.models.config import PolicyConfig
from bench.models.given import check_policy, check_reward
from bench.models.loading import content, content_of_settings, folder_content, load_policy
from bench.pipeline.engine import Engine
from bench.progress import say
from bench.provenance import stable_hash
from bench.stages.base import PROBE

_SAMPLE = 64  # test posts whose tokens are looked at


def contents(config: RunConfig) -> str:
    """A hash of the files of every local folder whose model the run, a judge, a metric or its known reward takes: other
    weights are another run."""
    ours = content(config.model)
    others = [
        *(path for policy in config.policies.values() for path in (policy.path, policy.base)),
        *(config.given.sft, config.given.reward, config.given.judge_reward),
        *(config.evaluation.embedding_model, config.evaluation.nli_model),
        *(spec.settings.name for spec in config.judge.specs if isinstance(spec.settings, LocalLLMJudgeConfig)),
    ]
    hashes = {path: folder_content(path) for path in others if path is not None}
    if isinstance(config.data, ControlledConfig):
        hashes |= content_of_settings(config.data.reward.settings)
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


def _trains_reward(config: RunConfig) -> bool:
    """Whether the run makes a reward model of its SFT model, and is not given one."""
    for_arms = needs_reward(config.arms) and config.given.reward is None
    return for_arms or ("reward_model" in config.judge.names and config.given.judge_reward is None)
