"""The rounds: workers started one after the other, their results kept as they come, and the table made of them."""

import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from bench.cost.flops import fastest_product
from bench.errors import ConfigError, ResourceError
from bench.files import read_json, write_json
from bench.models import wheel
from bench.models.loading import load_policy, load_tokenizer, new_reward_model, save_policy
from bench.perf import profile
from bench.perf.contenders import TASKS, UNITS, Contender, contenders
from bench.perf.measure import DTYPES, Measurement, Spec, provenance
from bench.perf.tables import markdown
from bench.perf.workload import Workload, from_built_in_world, from_folder, of_lengths, token_counts
from bench.progress import StageBar
from bench.provenance import stable_hash
from bench.reach import code_key
from bench.special_tokens import pad_id
from bench.validation import require

transformers_logging.disable_progress_bar()
transformers_logging.set_verbosity_error()  # a new reward head is reported as missing from the checkpoint

_CPU = torch.device("cpu")
_TRL_1_12 = "trl==1.12.0"
_WORKER = "bench.perf.worker"


@dataclass(frozen=True)
class Settings:
    """What the command line says. `steps` counts the first one, which warms up."""

    model: str
    data: Path | None
    out: Path
    rounds: int
    steps: int
    batch_size: int
    micro_batch_tokens: int
    prompts: int
    max_prompt_tokens: int
    max_new_tokens: int
    threads: int | None
    trl_1_12: Path | None
    only: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("rounds", "batch_size", "micro_batch_tokens", "prompts", "max_prompt_tokens", "max_new_tokens"):
            require(getattr(self, name) >= 1, f"--{name.replace('_', '-')}", getattr(self, name), "must be at least 1")
        require(self.steps >= 2, "--steps", self.steps - 1, "must be at least 1")
        require(
            not self.only or "ours" in self.only, "--only", " ".join(self.only), "must have ours, to be held against"
        )
        require(self.threads is None or self.threads >= 1, "--threads", self.threads, "must be at least 1")


def run_tasks(tasks: Sequence[str], settings: Settings) -> str:
    """Measure the tasks, write `<out>/<task>.json`, and return their tables; `<out>/perf.md` has every task's there."""
    peaks = _peaks(settings)
    fast = max(peaks, key=lambda name: peaks[name])
    model = _model_folder(settings)
    tokenizer = load_tokenizer(model)
    records = []
    of_tasks = {task: contenders(task, fast, settings.trl_1_12 is not None) for task in TASKS}
    names = dict.fromkeys(c.name for who in of_tasks.values() for c in who)
    for name in settings.only:
        require(name in names, "--only", name, f"must be among {', '.join(names)}")
    for task in tasks:
        workload, who = _workload(task, settings, tokenizer), of_tasks[task]
        record = {
            "task": task,
            "unit": UNITS[task],
            "data": workload.source,
            **token_counts(workload.pairs, tokenizer),
            "model": settings.model,
            "settings": {k: str(v) if isinstance(v, Path) else v for k, v in asdict(settings).items()},
            "gemm_tflops": dict(peaks),
            "contenders": {c.name: asdict(c) for c in who},
        }
        with StageBar(task, settings.rounds * len(who), "runs") as bar:
            path = settings.out / f"{task}.json"
            measured = measure_all(who, settings, workload, model, path, record, bar.update)
        records.append({**record, "measurements": measured})
    files = [settings.out / f"{task}.json" for task in TASKS]
    every = markdown([read_json(file) for file in files if file.exists()])
    (settings.out / "perf.md").write_text(every, encoding="utf-8")
    return markdown(records)


def run_profile(tasks: Sequence[str], settings: Settings) -> str:
    """Run our own step of each task once under the profiler, in bf16 too where that is faster, write
    `<out>/profile.md`, and return it."""
    peaks = _peaks(settings)
    fast = max(peaks, key=lambda name: peaks[name])
    model = _model_folder(settings)
    tokenizer = load_tokenizer(model)
    parts = []
    for task in tasks:
        for ours in contenders(task, fast, False):
            if ours.name.startswith("ours"):
                workload = _workload(task, settings, tokenizer)
                spec = replace(_spec(ours, settings, model, workload, settings.out), profile=True)
                result = asdict(_work(ours, spec, settings))
                _keep_fastest(peaks, _peaks(settings))
                title = f"{task}, {ours.dtype}"
                parts.append(profile.text(title, profile.shares(result["operators"]), result, peaks))
    (settings.out / "profile.md").write_text("".join(parts), encoding="utf-8")
    return "".join(parts)


def run_scaling(settings: Settings) -> str:
    """Measure every point of every axis, write `<out>/scaling.{json,md,svg}`, and return the table."""
    from bench.perf import scaling

    our_dpo, _, best_stock_dpo = contenders("dpo", "fp32", False)
    who = [our_dpo, best_stock_dpo, *contenders("ppo", "fp32", False)]
    names = {c.key: f"{c.task}, {c.name}" for c in who}
    measured: dict[scaling.Point, dict[str, Any]] = {}
    points = scaling.unique_points()
    with StageBar("scaling", len(points) * len(who), "runs") as bar:
        for point in points:
            model = settings.out / ".work" / "models" / f"llama-{point.hidden_size}"
            parameters = scaling.build_model(point.hidden_size, model)
            here = replace(settings, batch_size=point.batch_size, max_new_tokens=point.completion_tokens, rounds=1)
            workload = of_lengths(
                point.batch_size * settings.steps, load_tokenizer(model), point.prompt_tokens, point.completion_tokens
            )
            path = settings.out / ".work" / "scaling" / f"{stable_hash(asdict(point))[:12]}.json"
            runs = {}
            for contender in who:
                where = path.with_stem(f"{path.stem}-{contender.task}-{contender.name}")
                runs[contender.key] = measure_all([contender], here, workload, model, where, {})[contender.name][0]
                bar.update(1)
            measured[point] = {"point": asdict(point), "parameters": parameters, "measurements": runs}
    axes = {axis: [measured[point] for point in points] for axis, points in scaling.AXES.items()}
    write_json(settings.out / "scaling.json", {**provenance(), "axes": axes, "names": names})
    table = scaling.table(axes, names)
    (settings.out / "scaling.md").write_text(table, encoding="utf-8")
    scaling.figure(axes, names, settings.out / "scaling.svg")
    return table


def measure_all(
    who: Sequence[Contender],
    settings: Settings,
    workload: Workload,
    model: Path,
    path: Path,
    record: dict[str, Any],
    on_run: Callable[[int], None] = lambda done: None,
) -> dict[str, list[dict[str, Any]]]:
    """Every contender's measurements, round by round; what `path` holds of the same settings and code is kept.
    With `only`, the others get no more of them.

    The GEMM peak in `record` becomes the fastest of those measured between them: a single one can fall into a moment
    in which something else has the processor.
    """
    specs = {c.name: _spec(c, settings, model, workload, path.parent) for c in who}
    key = stable_hash([code_key(_WORKER), *(asdict(spec) for spec in specs.values())])
    found: dict[str, Any] = read_json(path) if path.exists() else {}
    if found.get("key") != key:
        found = {"measurements": {c.name: [] for c in who}}
    measured, peaks = found["measurements"], record.get("gemm_tflops", {})
    _keep_fastest(peaks, found.get("gemm_tflops", {}))
    for round_ in range(settings.rounds):
        for contender in who:
            if len(measured[contender.name]) <= round_ and (not settings.only or contender.name in settings.only):
                measured[contender.name].append(asdict(_work(contender, specs[contender.name], settings)))
                _keep_fastest(peaks, _peaks(settings) if peaks else {})
                write_json(path, {**record, "key": key, **provenance(), "measurements": measured})
            on_run(1)
    return measured


def _peaks(settings: Settings) -> dict[str, float]:
    """TFLOP/s of the fastest matrix product by dtype, in as many threads as the workers have."""
    torch.set_num_threads(_threads(settings))
    return {name: fastest_product(_CPU, dtype) / 1e12 for name, dtype in DTYPES.items()}


def _keep_fastest(peaks: dict[str, float], others: Mapping[str, float]) -> None:
    peaks.update({name: max(peak, others.get(name, peak)) for name, peak in peaks.items()})


def _threads(settings: Settings) -> int:
    return settings.threads or os.cpu_count() or 1


def _work(contender: Contender, spec: Spec, settings: Settings) -> Measurement:
    """Run a worker process to its end."""
    folder = Path(spec.pairs).parent
    told, result = folder / "spec.json", folder / "result.json"
    write_json(told, asdict(spec))
    result.unlink(missing_ok=True)
    environment = {**os.environ, "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
    module = _WORKER
    if contender.name.startswith("trl_1_12"):
        assert settings.trl_1_12 is not None
        environment["PYTHONPATH"] = str(_trl_1_12(settings.trl_1_12))
        module = "bench.perf.trl_1_12_ppo"
    done = subprocess.run(
        [sys.executable, "-m", module, str(told), str(result)], env=environment, capture_output=True, text=True
    )
    if done.returncode or not result.exists():
        reason = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise ResourceError(
            f"{contender.key} could not be measured: {reason}; lower --batch-size if memory ran out (what was measured"
            " before is kept)"
        )
    return Measurement(**read_json(result))


def _spec(contender: Contender, settings: Settings, model: Path, workload: Workload, folder: Path) -> Spec:
    work = folder / ".work" / contender.task
    work.mkdir(parents=True, exist_ok=True)
    workload.save(work / "pairs.jsonl")
    sampling = contender.task == "sampling"
    return Spec(
        contender=contender.name,
        task=contender.task,
        dtype=contender.dtype,
        model=str(model),
        reward_model=str(model / "reward"),
        pairs=str(work / "pairs.jsonl"),
        batch_size=settings.prompts if sampling else settings.batch_size,
        micro_batch_tokens=settings.micro_batch_tokens,
        steps=settings.steps,
        max_new_tokens=settings.max_new_tokens,
        threads=_threads(settings),
    )


def _workload(task: str, settings: Settings, tokenizer: PreTrainedTokenizerBase) -> Workload:
    """As many pairs as one epoch of `steps` optimizer steps needs."""
    count = settings.prompts if task == "sampling" else settings.batch_size * settings.steps
    if settings.data is not None:
        workload = from_folder(settings.data, count, tokenizer, settings.max_prompt_tokens)
    else:
        workload = from_built_in_world(count, tokenizer, settings.max_prompt_tokens * 3 // 4)
    if len(workload.pairs) < count:
        raise ConfigError(
            f"task {task} needs {count} pairs, {workload.source} has {len(workload.pairs)}; lower --batch-size, --steps"
            " or --prompts"
        )
    return workload


def _model_folder(settings: Settings) -> Path:
    """The model and a reward model on its backbone, as local folders."""
    given = Path(settings.model)
    folder = settings.out / ".work" / "models" / settings.model.replace("/", "_")
    if (folder / "reward" / "config.json").exists():
        return folder
    if given.is_dir():
        tokenizer, policy = load_tokenizer(given), load_policy(given, _CPU)
    elif "==" in settings.model:
        tokenizer = wheel.load_tokenizer(settings.model, settings.out / ".work")
        policy = wheel.load_model(settings.model, settings.out / ".work", pad_id(tokenizer))
    else:
        raise ConfigError(f"--model is {settings.model!r}: neither a folder nor a wheel (name==version)")
    save_policy(policy, tokenizer, folder)
    save_policy(new_reward_model(folder, pad_id(tokenizer), 0, _CPU), tokenizer, folder / "reward")
    return folder


def _trl_1_12(folder: Path) -> Path:
    """The folder, with TRL 1.12.0 and nothing else in it: the packages around it are the installed ones."""
    if not (folder / "trl").is_dir():
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder), _TRL_1_12]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise ResourceError(
                f"cannot install {_TRL_1_12} into {folder}: {(done.stderr.strip().splitlines() or ['pip failed'])[-1]}"
            )
    return folder
