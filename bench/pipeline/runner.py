"""A whole run: data -> stages -> completions -> evaluation -> the run folder."""

import copy
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from bench import arms, processes
from bench.arms import Stage
from bench.config import RunConfig, check_batches
from bench.cost import metered
from bench.data import (
    ControlledConfig,
    FilesConfig,
    SplitLimits,
    SyntheticConfig,
    counted_at_once,
    data_statistics,
    format_statistics,
    load,
    split_hash,
    split_seed,
    subsample,
    truncate_prompts,
    without_written_eos,
)
from bench.data.controlled import scorer_code
from bench.errors import ConfigError, DataError, RunFolderError
from bench.evaluate.claims import verdicts_on_claims
from bench.evaluate.judge_error import check_labels
from bench.evaluate.judges.factory import check_judges, prompt_hashes
from bench.evaluate.kl_sign import negative_kls
from bench.evaluate.power import power_line
from bench.evaluate.summary_metrics import check_models
from bench.files import read_json, write_json, write_jsonl
from bench.models.loading import base_context_length, base_tokenizer, pick_device, require_attention
from bench.pipeline.ahead import line_ahead, require_budget
from bench.pipeline.by_prompt import write_by_prompt
from bench.pipeline.cache import FinishedStage
from bench.pipeline.cells import cells
from bench.pipeline.controlled import LABEL, labelled, with_known_reward
from bench.pipeline.engine import Engine, unmoved
from bench.pipeline.evaluation import Evaluation, add_costs
from bench.pipeline.fits import require_fits
from bench.pipeline.instruments import Instruments, text_models
from bench.pipeline.live import OnRows, check_report_to, shown_live
from bench.pipeline.live_samples import LiveSamples
from bench.pipeline.preflight import contents, preflight
from bench.pipeline.remeasure import remeasured, require_one_process
from bench.pipeline.run_folder import SCHEMA, TrainingLogs, claim, config_hash, finish, note, one_at_a_time, recorded
from bench.pipeline.watched import write_moments
from bench.progress import say
from bench.provenance import device_info, stable_hash
from bench.reach import code_key
from bench.records import ComparisonData
from bench.train.health.record import health_record, health_summary
from bench.train.log import TrainingLog

_EVALUATION = "bench.pipeline.evaluation"
# Products of a tiny model are over before a second thread is awake, and threads that spin for each other slow a busy
# machine down several times over: beside another process two threads took 2 to 4 times as long as one.
_FEW_THREADS = {"tiny": 1}
_LAST_WORLD: dict[str, tuple[ComparisonData, PreTrainedTokenizerBase, dict[str, Any]]] = {}


def run(config: RunConfig, command: str) -> Path:
    """Run everything that is not there yet and return the run folder. `command` is recorded as the way to repeat it.

    A finished run is not repeated; after a change of code that can change one of its numbers, what that code makes is
    made again, and the rest is taken from the cache.

    Raises:
        UserError: what the user can mend, found before any model is loaded wherever that is possible.
    """
    processes.connect(pick_device(config.model.device))
    if (threads := config.threads or _FEW_THREADS.get(config.model.kind)) is not None:
        torch.set_num_threads(threads)
    weights = processes.from_main(contents(config) if processes.is_main() else None)
    if processes.is_main():
        _check(config)
    with one_at_a_time(config, command, weights) if processes.is_main() else nullcontext():
        folder, finished = processes.from_main(_claimed(config, weights) if processes.is_main() else None)
        if not finished:
            _make(config, folder, command, weights)
        if config.remeasure:
            _remeasure(config, folder)
    return folder


def _make(config: RunConfig, folder: Path, command: str, weights: str) -> None:
    if processes.is_main():
        with (
            recorded(folder, config, command, weights) as record,
            shown_live(config, folder, record["config"]) as show,
        ):
            _run(config, folder, record, show)
    else:
        _run(config, folder, {})
    processes.wait()


def _remeasure(config: RunConfig, folder: Path) -> None:
    """Put into metrics.json what the arms' stages cost when their steps are run again, and what follows of it."""
    cache_dir = Path(config.results_dir) / ".cache"
    data, tokenizer, _ = prepare_data(config, cache_dir)
    engine = Engine(config, data, tokenizer, cache_dir)
    labelled(engine)
    found = remeasured(engine, config.arms)
    metrics = read_json(folder / "metrics.json")
    for arm, cost in found.items():
        metrics["arms"][arm]["cost"]["remeasured"] = cost
    metrics["verdicts_on_claims"] = verdicts_on_claims(
        metrics, config.evaluation.noninferiority_margin, config.evaluation.cost_tolerance
    )
    write_json(folder / "metrics.json", metrics)


def _check(config: RunConfig) -> None:
    """Refuse what can be refused before data and models are read."""
    check_report_to(config.report_to)
    check_judges(config.judge)
    check_labels(config.evaluation.judge_labels, config.judge.names, prompt_hashes(config.judge))
    check_batches(config, processes.count())
    require_attention(config.model)
    if config.remeasure:
        require_one_process(processes.count())
    for settings in config.learning:
        if settings.lora_4bit and find_spec("bitsandbytes") is None:
            raise ConfigError(f"{settings.group}.lora_4bit needs bitsandbytes: pip install 'rlhf-vs-dpo[4bit]'")
        if settings.lora_4bit and processes.shard_weights():
            raise ConfigError(
                f"{settings.group}.lora_4bit: 4-bit weights do not lie in shares (FSDP, DeepSpeed); set it to false"
            )
        in_shares = settings in (config.sft, config.reward, config.dpo) and not processes.uses_deepspeed()
        if settings.lora_rank and processes.shard_weights() and not (in_shares or settings is config.ppo):
            raise ConfigError(
                f"{settings.group}.lora_rank: of TRL's trainers SFT, the reward model and DPO put adapters into FSDP's"
                f" shares, none into DeepSpeed's; set {settings.group}.lora_rank=0, or launch otherwise"
            )
    if config.samples_in_training.points and processes.shard_weights():
        raise ConfigError(
            "samples_in_training: needs whole weights in every process, not shares of them (FSDP, DeepSpeed); set"
            " samples_in_training.points=0, or launch without sharding"
        )
    check_models(
        config.evaluation.metrics,
        text_models(config, pick_device(config.model.device), Path(config.results_dir) / ".cache"),
    )


def _claimed(config: RunConfig, weights: str) -> tuple[Path, bool]:
    """The run's folder and whether it is finished."""
    folder, record = claim(config, weights)
    if record is None:
        return folder, False
    _require_same_files(config, folder, record)
    changed = [name for name, code in _codes(config).items() if record.get("code", {}).get(name) != code]
    if changed:
        say(
            f"{folder} is finished, but the code of {', '.join(changed)} has changed since: what it makes is made again"
        )
    else:
        say(f"{folder} holds this run, finished: nothing to do (remove the folder to run it again)")
    return folder, not changed


def _codes(config: RunConfig) -> dict[str, str]:
    """Stage, or evaluation -> the hash of the code that its numbers come from."""
    prompts = "".join(prompt_hashes(config.judge))
    return {
        **{stage.name: code_key(stage.module) for stage in _stages(config)},
        **({"known_reward": scorer_code(config.data.reward)} if isinstance(config.data, ControlledConfig) else {}),
        "evaluation": f"{code_key(_EVALUATION)}{prompts}",
    }


def _stages(config: RunConfig) -> list[Stage]:
    """All stages of a run: those that its arms, judges and data need, and the arms' completions."""
    others = ["judge_reward"] if "reward_model" in config.judge.names else []
    others += [LABEL.name] if isinstance(config.data, ControlledConfig) else []
    by = config.samples_in_training.keep_best
    sampled = [arms.generated(arms.arm_of(arm), by) for arm in config.arms]
    return [*arms.needed(config.arms, *others), *arms.chosen(config.arms, by), *sampled]


def _before_arms(config: RunConfig) -> list[tuple[Stage, None]]:
    """No arm is made from the judge's reward model: it comes last, but where it judges the arms while they train."""
    judges = config.samples_in_training.points and "reward_model" in config.judge.names
    return [(arms.stage_of("judge_reward"), None)] if judges else []


def _run(config: RunConfig, folder: Path, record: dict[str, Any], show: OnRows = lambda stage, rows: None) -> None:
    start = time.perf_counter()
    cache_dir = Path(config.results_dir) / ".cache"
    with processes.main_first():
        data, tokenizer, statistics = prepare_data(config, cache_dir)
        headline, grid = cells(config, data, tokenizer)
    say(format_statistics(statistics))
    say(power_line(len(data.eval_prompts)))
    logs = TrainingLogs(folder)

    def grown(stage: str, rows: TrainingLog) -> None:
        logs.write(stage, rows)
        show(stage, rows)

    def there(stage: FinishedStage) -> None:
        folders[stage.name] = stage.folder
        record.setdefault("cache", []).append(stage.folder.name)
        note(folder, record)

    folders: dict[str, Path] = {}
    engine = Engine(config, data, tokenizer, cache_dir, user=f"{config.name}/{folder.name}")
    if processes.is_main():
        engine.on_rows, engine.on_stage = grown, there
    preflight(engine)
    labels = _labelled(engine, makes=False)
    say(line_ahead(engine, (headline, *grid), _stages(config)))
    require_budget(engine, (headline, *grid), _stages(config))
    if data.awaits_labels:
        labels = labels or _labelled(engine)
        data = engine.data
        headline, *grid = [cell.with_pairs(data) for cell in (headline, *grid)]
        statistics = _statistics(data, tokenizer, statistics["truncated_prompts"])
        say(format_statistics(statistics))
    by = config.samples_in_training.keep_best
    sampled = [(arms.generated(arms.arm_of(arm), by), cell) for cell in (headline, *grid) for arm in config.arms]
    instruments = Instruments(config, folders, tokenizer, engine.device, engine.frozen_dtype, cache_dir)
    engine.on_taken = LiveSamples(instruments, headline, show)
    engine.judge = lambda name: instruments.judge(headline, name)
    engine.finish([*_before_arms(config), *sampled, *((stage, None) for stage in _stages(config))])
    if not processes.is_main():
        return

    with metered(engine.device) as evaluation_cost:
        evaluations = [
            Evaluation(
                cell,
                instruments,
                {name: stage.folder for name, stage in engine.done_in(cell).items()},
                {arm: engine.completions(arm, cell) for arm in config.arms},
                {arm: rows for arm in config.arms if cell is headline and (rows := engine.watched(arm))},
            )
            for cell in (headline, *grid)
        ]
        measured = evaluations[0].metrics()
        for arm in config.arms:
            if (checkpoint := engine.chosen(arm)) is not None:
                measured["arms"][arm]["checkpoint"] = checkpoint
        rows = [evaluation.cell_metrics() for evaluation in evaluations[1:]]
    metrics: dict[str, Any] = {
        "schema": SCHEMA,
        "experiment": config.name,
        "seed": config.seed,
        "config_hash": config_hash(config),
        "data": statistics,
        "cell": {"set": headline.set, "temperature": headline.temperature},
        **measured,
        **({"labels": labels} if isinstance(config.data, ControlledConfig) else {}),
        "grid": rows,
        "health": {
            name: health_record(name, stage.log, config.health) for name, stage in engine.done.items() if stage.log
        },
    }
    for name, finding in [*negative_kls(measured["arms"]).items(), *unmoved(engine.done).items()]:
        healthy = {"collapsed": False, "step": None, "why": None, "findings": []}
        metrics["health"].setdefault(name, healthy)["findings"].append(finding)
    costs = {name: stage.cost for name, stage in engine.done.items()}
    ran = [stage.cost for stage in engine.done.values() if not stage.reused]
    stages_wall_s = sum(cost.wall_s + cost.apart_wall_s for cost in ran)
    add_costs(metrics, config, costs, evaluation_cost, time.perf_counter() - start, stages_wall_s)
    record |= {
        "device": {**device_info(engine.device), "bf16": engine.bf16, "processes": processes.count()},
        "data": {"source": dict(data.source), "hash": split_hash(data)},
        "stages": {name: {"key": stage.key, "reused": stage.reused} for name, stage in engine.done.items()},
        "code": _codes(config),
    }
    for evaluation in evaluations:
        _write_rows(folder if evaluation.cell is headline else folder / "grid" / evaluation.cell.name, evaluation)
    write_moments(folder / "in_training", evaluations[0].moments)
    finish(folder, record, metrics)
    say("\n".join(health_summary(metrics["health"])))


def _labelled(engine: Engine, makes: bool = True) -> dict[str, Any]:
    """As `labelled`; raises DataError where an arm's training would have no pairs."""
    labels = labelled(engine, makes)
    _require_rows(engine.config, engine.data)
    return labels


def _require_same_files(config: RunConfig, folder: Path, record: Mapping[str, Any]) -> None:
    """The config names the user's files but not what is in them: a finished run of other content is another run."""
    if not isinstance(config.data, FilesConfig | ControlledConfig):
        return
    there, here = record["data"]["source"], load(config.data, config.seed).source
    changed = sorted(name for name in {*there, *here} if there.get(name) != here.get(name))
    if changed:
        raise RunFolderError(
            f"{folder} was made from other data ({changed[0]} has changed since); choose another run_id or remove it"
        )


def prepare_data(config: RunConfig, cache_dir: Path) -> tuple[ComparisonData, PreTrainedTokenizerBase, dict[str, Any]]:
    """The run's data, subsampled and cut to the token budget; the tokenizer that counted; the data's statistics.

    Reads no weights. The last built-in world is kept, as a sweep's jobs mostly share it.
    """
    if not isinstance(config.data, SyntheticConfig):
        return _prepared(config, cache_dir)
    key = stable_hash([config.seed, *map(asdict, (config.data, config.budget, config.model))])
    if key not in _LAST_WORLD:
        found = _prepared(config, cache_dir)
        _LAST_WORLD.clear()
        _LAST_WORLD[key] = found
    data, tokenizer, statistics = _LAST_WORLD[key]
    _require_rows(config, data)
    return data, copy.deepcopy(tokenizer), copy.deepcopy(statistics)


def _prepared(config: RunConfig, cache_dir: Path) -> tuple[ComparisonData, PreTrainedTokenizerBase, dict[str, Any]]:
    budget = config.budget
    data = load(config.data, config.seed)
    limits = SplitLimits(
        demonstrations=budget.demonstrations,
        pairs=budget.pairs,
        judge_pairs=budget.judge_pairs,
        validation_pairs=budget.validation_pairs,
        eval_prompts=budget.eval_prompts,
    )
    data = subsample(data, limits, split_seed(config.data, config.seed))
    _require_rows(config, data)
    tokenizer = base_tokenizer(config.model, _texts(data), cache_dir)
    context = base_context_length(config.model)
    tokens = budget.max_prompt_tokens + budget.max_completion_tokens
    if context is not None and tokens > context:
        raise ConfigError(
            f"budget.max_prompt_tokens + budget.max_completion_tokens is {tokens}, but {config.model.name} has"
            f" {context} positions; lower them or choose a model with a longer context"
        )

    data = without_written_eos(data, str(tokenizer.eos_token))
    count_tokens = counted_at_once(data, lambda texts: tokenizer(texts)["input_ids"])
    data, truncated = truncate_prompts(data, budget.max_prompt_tokens, count_tokens)
    require_fits(data, tokenizer, budget.max_prompt_tokens, context)
    data = with_known_reward(config, data, cache_dir)
    return data, tokenizer, _statistics(data, tokenizer, truncated, count_tokens)


def _statistics(
    data: ComparisonData,
    tokenizer: PreTrainedTokenizerBase,
    truncated: int,
    count_tokens: Callable[[str], int] | None = None,
) -> dict[str, Any]:
    count = count_tokens or counted_at_once(data, lambda texts: tokenizer(texts)["input_ids"])
    return data_statistics(data, count, truncated, tokenizer.num_special_tokens_to_add())


def _require_rows(config: RunConfig, data: ComparisonData) -> None:
    """Every split that the run reads must hold something."""
    to_make = [stage for stage in _stages(config) if stage != LABEL or data.awaits_labels]
    places = {place for stage in to_make for place in stage.reads if place != "prompts"}
    if config.given.judge_reward is not None:
        places.discard("preferences/judge")
    if any(place.startswith("preferences/") for place in places):
        places.add("preferences/validation")  # where what was learnt from pairs is measured
    if config.samples_in_training.points:
        places.add("demonstrations/validation")
    needed: list[tuple[str, Sequence[Any]]] = [("test prompts", data.eval_prompts)]
    for name, rows in [*needed, *((place, data.rows(place)) for place in sorted(places))]:
        if not rows:
            raise DataError(f"the data has no {name}, which arms {list(config.arms)} need; {_mend(config, data, name)}")
    if len(config.arms) < 2 and not data.has_references:
        raise DataError(
            f"no test post has a reference summary, and arms has {list(config.arms)} alone: nothing to compare; add"
            " arms, or reference summaries (data.columns.reference)"
        )


def _mend(config: RunConfig, data: ComparisonData, place: str) -> str:
    if isinstance(config.data, ControlledConfig) and place.startswith("preferences/"):
        if place == "preferences/judge":
            return "data.judge_fraction=0.3 makes some for the judge, or change arms/judge"
        if data.demonstrations[place.partition("/")[2]] and not data.awaits_labels:
            return (
                "all samples of each of its posts are equal: raise data.sampling_temperature or data.samples_per_post"
            )
    return "add them or change arms/judge"


def _texts(data: ComparisonData) -> list[str]:
    return [text for d in data.demonstrations["train"] for text in (d.prompt, f" {d.completion}")]


def _write_rows(folder: Path, evaluation: Evaluation) -> None:
    """What the numbers of a cell were made of, as results/README.md describes it."""
    for arm in evaluation.completions:
        write_jsonl(folder / "completions" / f"{arm}.jsonl", evaluation.rows(arm))
    for judge, verdicts in evaluation.verdicts.items():
        write_jsonl(folder / "verdicts" / f"{judge}.jsonl", map(vars, verdicts))
    write_by_prompt(folder, evaluation.data.eval_prompts, evaluation.completions, evaluation.verdicts)
    prompts = [{"prompt_id": p.id, "prompt": p.prompt, "reference": p.reference} for p in evaluation.data.eval_prompts]
    write_jsonl(folder / "prompts.jsonl", prompts)
