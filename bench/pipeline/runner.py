"""A whole run: data -> stages -> completions -> evaluation -> the run folder."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase, set_seed

from bench import processes
from bench.cost import metered
from bench.data import (
    FilesConfig,
    SplitLimits,
    data_statistics,
    format_statistics,
    load,
    split_hash,
    split_seed,
    subsample,
    truncate_prompts,
)
from bench.errors import ConfigError, DataError, RunFolderError
from bench.evaluate.judges.factory import check_judges
from bench.evaluate.power import power_line
from bench.files import read_json, read_jsonl, write_json, write_jsonl
from bench.models.loading import base_context_length, base_tokenizer, pick_device
from bench.pipeline.cache import StageCache
from bench.pipeline.config import NEED_PAIRS, RunConfig, check_batches
from bench.pipeline.evaluation import Evaluation, add_costs
from bench.pipeline.run_folder import claim, config_as_dict, config_hash
from bench.pipeline.stages import Stages
from bench.progress import say
from bench.provenance import device_info, git_state, package_versions
from bench.records import ComparisonData, Completion
from bench.train.health.watch import health_record, health_summary

SCHEMA = 1


def run(config: RunConfig, command: str) -> Path:
    """Run everything that is not there yet and return the run folder. `command` is recorded as the way to repeat it.

    Raises:
        UserError: what the user can mend, found before any model is loaded wherever that is possible.
    """
    processes.connect(pick_device(config.model.device))
    folder, finished = processes.from_main(_claimed(config) if processes.is_main() else None)
    if finished:
        return folder
    started, start = _now(), time.perf_counter()
    cache_dir = Path(config.results_dir) / ".cache"
    with processes.main_first():
        data, tokenizer, statistics = prepare_data(config, cache_dir)
    say(format_statistics(statistics))
    say(power_line(len(data.eval_prompts)))

    set_seed(config.seed)
    stages = Stages(config, data, tokenizer, StageCache(cache_dir / "stages"), cache_dir)
    completions: dict[str, list[Completion]] = {}
    for arm in config.arms:
        stage = stages.generate(arm)
        completions[arm] = [Completion(**row) for row in read_jsonl(stage.folder / "completions.jsonl")]
    if "reward_model" in config.judge.names:
        stages.judge_reward()
    if processes.is_main():
        _finish(config, folder, command, stages, statistics, completions, started, start)
    processes.wait()
    return folder


def _claimed(config: RunConfig) -> tuple[Path, bool]:
    """The run's folder and whether it is finished, after all that can be refused before data and models are read."""
    folder, finished = claim(config)
    if finished:
        _require_same_files(config, folder)
        say(f"{folder} holds this run, finished: nothing to do (remove the folder to run it again)")
    else:
        check_judges(config.judge)
        check_batches(config, processes.count())
    return folder, finished


def _finish(
    config: RunConfig,
    folder: Path,
    command: str,
    stages: Stages,
    statistics: Mapping[str, Any],
    completions: Mapping[str, Sequence[Completion]],
    started: str,
    start: float,
) -> None:
    """Evaluate the completions and write the run folder. The run began at `started`; this clock said `start` then."""
    data = stages.data
    evaluation = Evaluation(config, data, stages)
    with metered(stages.device) as evaluation_cost:
        measured = evaluation.metrics(completions)
    metrics: dict[str, Any] = {
        "schema": SCHEMA,
        "experiment": config.name,
        "seed": config.seed,
        "config_hash": config_hash(config),
        "data": statistics,
        **measured,
    }
    add_costs(metrics, config, stages, evaluation_cost, time.perf_counter() - start)
    metrics["health"] = {
        name: health_record(name, stage.log, config.health) for name, stage in stages.done.items() if stage.log
    }

    record = {
        "schema": SCHEMA,
        "experiment": config.name,
        "run_id": folder.name,
        "command": command,
        "config": config_as_dict(config),
        "config_hash": config_hash(config),
        "seed": config.seed,
        "git": git_state(),
        "versions": package_versions(),
        "device": {**device_info(stages.device), "bf16": stages.bf16, "processes": processes.count()},
        "data": {"source": dict(data.source), "hash": split_hash(data)},
        "stages": {name: {"key": stage.key, "reused": stage.reused} for name, stage in stages.done.items()},
        "started": started,
        "finished": _now(),
    }
    _write(folder, record, metrics, completions, evaluation, stages, data)
    say("\n".join(health_summary(metrics["health"])))


def _require_same_files(config: RunConfig, folder: Path) -> None:
    """The config names the user's files but not what is in them: a finished run of other content is another run."""
    if not isinstance(config.data, FilesConfig):
        return
    there, here = read_json(folder / "run.json")["data"]["source"], load(config.data, config.seed).source
    changed = sorted(name for name in {*there, *here} if there.get(name) != here.get(name))
    if changed:
        raise RunFolderError(
            f"{folder} was made from other data ({changed[0]} has changed since); choose another run_id or remove it"
        )


def prepare_data(config: RunConfig, cache_dir: Path) -> tuple[ComparisonData, PreTrainedTokenizerBase, dict[str, Any]]:
    """The run's data, subsampled and cut to the token budget; the tokenizer that counted; the data's statistics.

    Reads no weights.
    """
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

    def count_tokens(text: str) -> int:
        return len(tokenizer(text).input_ids)

    data, truncated = truncate_prompts(data, budget.max_prompt_tokens, count_tokens)
    return data, tokenizer, data_statistics(data, count_tokens, truncated)


def _require_rows(config: RunConfig, data: ComparisonData) -> None:
    """Every split that the run reads must hold something."""
    needed: list[tuple[str, Sequence[Any]]] = [
        ("demonstrations/train", data.demonstrations.get("train", [])),
        ("test prompts with a reference summary", data.eval_prompts),
    ]
    if NEED_PAIRS & set(config.arms):
        needed += [(f"preferences/{s}", data.preferences.get(s, [])) for s in ("train", "validation")]
    if "reward_model" in config.judge.names:
        needed += [(f"preferences/{s}", data.preferences.get(s, [])) for s in ("judge", "validation")]
    for name, rows in needed:
        if not rows:
            raise DataError(
                f"the data has no {name}, which arms {list(config.arms)} need; add them or change arms/judge"
            )


def _texts(data: ComparisonData) -> list[str]:
    return [text for d in data.demonstrations["train"] for text in (d.prompt, f" {d.completion}")]


def _write(
    folder: Path,
    record: Mapping[str, Any],
    metrics: Mapping[str, Any],
    completions: Mapping[str, Sequence[Completion]],
    evaluation: Evaluation,
    stages: Stages,
    data: ComparisonData,
) -> None:
    """The run contract of results/README.md.

    run.json comes first, so that a rerun after a full disk knows the folder as its own; metrics.json comes last,
    because its presence says that all is there.
    """
    write_json(folder / "run.json", record)
    for arm, rows in completions.items():
        write_jsonl(folder / "completions" / f"{arm}.jsonl", [asdict(row) for row in rows])
    for judge, verdicts in evaluation.verdicts.items():
        write_jsonl(folder / "verdicts" / f"{judge}.jsonl", [asdict(verdict) for verdict in verdicts])
    for name, stage in stages.done.items():
        if stage.log:
            write_jsonl(folder / "training" / f"{name}.jsonl", stage.log)
    prompts = [{"prompt_id": p.id, "prompt": p.prompt, "reference": p.reference} for p in data.eval_prompts]
    write_jsonl(folder / "prompts.jsonl", prompts)
    write_json(folder / "metrics.json", metrics)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
