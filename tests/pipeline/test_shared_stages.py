"""Stages without training that several processes build: they share the rows, make what one would, all are billed."""

import multiprocessing
import os
import socket
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.state import AcceleratorState
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from bench import processes
from bench.arms import BY_NAME, STAGES, generated
from bench.cost import metered
from bench.files import read_json, read_jsonl
from bench.generation import SamplingConfig
from bench.models.loading import RewardModel, load_tokenizer, save_policy, save_reward_model
from bench.pipeline.cache import FinishedStage, StageCache
from bench.records import EvalPrompt, PreferencePair
from bench.special_tokens import eos_id
from bench.stages import best_of_n, generate, reference_logps
from bench.stages.context import StageContext

pytestmark = pytest.mark.usefixtures("one_thread")  # the processes started here have one
CPU = torch.device("cpu")
WORDS = "cat dog cake party river ball sugar mat sun".split()
POSTS = [f"POST: the {' and the '.join(WORDS[: i + 1])}. TL;DR:" for i in range(len(WORDS))]
PROMPTS = [EvalPrompt(word, post, f"the {word}") for word, post in zip(WORDS, POSTS, strict=True)]
PAIRS = [PreferencePair(word, post, f"the {word}.", "no") for word, post in zip(WORDS, POSTS, strict=True)]
SAMPLING: dict[str, Any] = dict(sampling=SamplingConfig(0.7, batch_size=2), max_new_tokens=12, seed=1)
STAGES_BUILT: dict[str, tuple[Any, dict[str, Any]]] = {
    "reference_logps": (reference_logps, dict(pairs=PAIRS, batch_size=4)),
    "generate_dpo": (generate, dict(prompts=PROMPTS, **SAMPLING)),
    "best_of_n": (best_of_n, dict(prompts=PROMPTS[:3], n=4, **SAMPLING)),
}


def built(models: Path, root: Path) -> dict[str, FinishedStage]:
    """The stages, built by all processes that there are as the engine would."""
    torch.set_num_threads(1)
    inputs = {name: models / name for name in ("sft", "policy", "reward")}
    tokenizer, found = load_tokenizer(inputs["sft"]), {}
    for name, (module, values) in STAGES_BUILT.items():

        def build(folder: Path, name: str = name, module: Any = module, values: dict[str, Any] = values):
            context = StageContext(name, CPU, False, tokenizer, folder / "checkpoint", root, checkpoint_every_s=1e9)
            with metered(CPU) as cost:
                made = module.build(context, inputs, folder, **values)
            cost.tokens_generated = made.tokens_generated
            return cost, made.log

        found[name] = StageCache(root).run(name, "code", {}, build, by_all=True)
    return found


def rank(models: Path, root: Path, index: int, port: int) -> None:
    """One of two processes, as `accelerate launch` starts them."""
    places = {"RANK": index, "LOCAL_RANK": index, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2, "MASTER_PORT": port}
    os.environ |= {key: str(value) for key, value in places.items()} | {"MASTER_ADDR": "127.0.0.1"}
    AcceleratorState._reset_state(reset_partial_state=True)  # a fork knows what the tests before it have set up
    processes.connect(CPU)
    assert processes.own(PAIRS) == PAIRS[index::2]
    assert processes.put_together(processes.own(PAIRS)) == PAIRS
    built(models, root)


def ending_often(policy: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    """With the EOS as probable as the token that is often the likeliest."""
    ids = [tokenizer(post).input_ids for post in POSTS]
    with torch.no_grad():
        likely = [int(policy(input_ids=torch.tensor([row])).logits[0, -1].argmax()) for row in ids]
        weight = policy.get_input_embeddings().weight  # tied
        assert isinstance(weight, torch.Tensor)
        weight[eos_id(tokenizer)] = weight[max(likely, key=likely.count)]
    return policy


def rows(stage: FinishedStage) -> list[dict[str, Any]]:
    (file,) = [path for path in stage.folder.glob("*.jsonl") if path.name != "training.jsonl"]
    return read_jsonl(file)


def texts(row: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if not isinstance(value, float)}


def test_two_processes_make_what_one_does(make_policy, make_classifier, tokenizer, tmp_path: Path):
    """Texts and tokens are the same, though rows end at different steps in the two; numbers but for rounding."""
    save_policy(make_policy(seed=0), tokenizer, tmp_path / "sft")
    save_policy(ending_often(make_policy(seed=1), tokenizer), tokenizer, tmp_path / "policy")
    save_reward_model(RewardModel(make_classifier(), 0.25), tokenizer, tmp_path / "reward")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    context = multiprocessing.get_context("fork")
    ranks = [context.Process(target=rank, args=(tmp_path, tmp_path / "two", i, port)) for i in range(2)]
    for process in ranks:
        process.start()
    alone = built(tmp_path, tmp_path / "one")
    for process in ranks:
        process.join()
    assert [process.exitcode for process in ranks] == [0, 0]

    together = {path.name.rpartition("-")[0]: path for path in (tmp_path / "two").iterdir() if path.is_dir()}
    assert together.keys() == alone.keys() == STAGES_BUILT.keys()
    for name, stage in alone.items():
        expected = rows(stage)
        found = read_jsonl(next(p for p in together[name].glob("*.jsonl") if p.name != "training.jsonl"))
        assert len(found) == len(expected) >= 9
        same = [pair for pair in zip(found, expected, strict=True) if texts(pair[0]) == texts(pair[1])]
        assert len(same) >= len(expected) - 1  # a draw may fall between two tokens as one and the other round them
        for row, other in same:
            for key in row.keys() - texts(row).keys():
                assert row[key] == pytest.approx(other[key], rel=1e-4, abs=1e-4)
        cost, of_one = read_json(together[name] / "stage.json")["cost"], stage.cost
        assert (cost["devices"], of_one.devices) == (2, 1)
        assert cost["device_hours"] == pytest.approx(2 * cost["wall_s"] / 3600)
        assert 0 < cost["flops"] <= 1.5 * of_one.flops  # shared, not done twice
    lengths = [row["n_tokens"] for row in rows(alone["generate_dpo"])]
    assert len({*lengths}) > 1


def test_no_process_waits_for_another():
    """But for what is no arm's: the base model is loaded and probed by the first one."""
    assert {stage.name for stage in STAGES if not stage.by_all} == {"base"}
    assert all(generated(arm).by_all for arm in BY_NAME.values())
