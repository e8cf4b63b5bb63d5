"""vLLM as the rollout engine: TRL's own VLLMGeneration, with a stand-in where vLLM's engine would be."""

import copy
from types import SimpleNamespace

import pytest
import torch
from accelerate.state import AcceleratorState
from ppo_world import PROMPTS, SETTINGS, TOKENS, make_trainer, sft_policy, small_models
from transformers import AutoModelForCausalLM
from trl.generation import vllm_generation

from bench.errors import ConfigError
from bench.generation import sample
from bench.train.ppo_rollouts import LoopSampler
from bench.train.settings import ppo as ppo_settings
from bench.train.settings.ppo import PPOSettings
from bench.train.vllm_rollouts import VLLMSampler


class Engine:
    """The part of `vllm.LLM` that TRL talks to: a model of its own that knows only the weights it was sent."""

    def __init__(self, model: str, **settings) -> None:
        self.settings, self.network = settings, AutoModelForCausalLM.from_pretrained(model).eval()
        runner = SimpleNamespace(model_runner=SimpleNamespace(model=self))
        self.llm_engine = SimpleNamespace(model_executor=SimpleNamespace(driver_worker=runner))
        self.asked: list[SimpleNamespace] = []

    def load_weights(self, weights) -> None:
        parameters = dict(self.network.named_parameters())
        for name, tensor in weights:
            parameters[name].data.copy_(tensor)

    def reset_prefix_cache(self) -> None: ...

    def generate(self, prompts, sampling_params, use_tqdm):
        self.asked.append(sampling_params)
        rollout = sample(
            self.network,
            [p["prompt_token_ids"] for p in prompts],
            max_new_tokens=sampling_params.max_tokens,
            eos_token_id=sampling_params.stop_token_ids[0],
            pad_token_id=TOKENS.pad_token_id,
            temperature=sampling_params.temperature,
            generator=torch.Generator().manual_seed(0),
        )
        return [
            SimpleNamespace(
                prompt_token_ids=p["prompt_token_ids"], outputs=[SimpleNamespace(token_ids=tuple(ids), logprobs=None)]
            )
            for p, ids in zip(
                prompts,
                [i[m].tolist() for i, m in zip(rollout.completion_ids, rollout.completion_mask, strict=True)],
                strict=True,
            )
        ]


@pytest.fixture
def vllm(monkeypatch):
    """vLLM, as far as TRL and the settings can see."""
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.setenv(name, "")  # TRL sets them; restored behind the test
        monkeypatch.delenv(name)
    monkeypatch.setattr(vllm_generation, "is_vllm_available", lambda: True)
    monkeypatch.setattr(vllm_generation, "LLM", Engine, raising=False)
    monkeypatch.setattr(vllm_generation, "SamplingParams", SimpleNamespace, raising=False)
    monkeypatch.setattr(ppo_settings, "find_spec", lambda name: object())


@pytest.mark.parametrize("options", [{}, {"lora_rank": 2}])
def test_vllm_samples_from_the_policy_as_it_is_now(vllm, tmp_path, architecture, options):
    settings = {"rollout_engine": "vllm", "learning_rate": 0.05, **options}
    sft_policy(architecture).save_pretrained(tmp_path)
    models = small_models(PPOSettings(**{**SETTINGS, **settings}), architecture)
    models.policy.name_or_path = str(tmp_path)  # as models have it that were loaded from a folder
    trainer = make_trainer(models=models, temperature=0.0, **settings)
    assert isinstance(trainer.sampler, VLLMSampler)
    loop = LoopSampler(lambda: models.policy, TOKENS, temperature=0.0, max_new_tokens=6)

    def same_as_the_loop() -> torch.Tensor:
        found, expected = trainer.roll_out(PROMPTS), loop.sample([p.token_ids for p in PROMPTS], 0, torch.arange(4), 4)
        for name in ("input_ids", "prompt_lengths", "completion_ids", "completion_mask", "is_finished"):
            assert torch.equal(getattr(found, name), getattr(expected, name)), name
        return found.input_ids

    before = same_as_the_loop()
    rows = trainer.train(PROMPTS)
    assert rows[0]["ratio_max"] == pytest.approx(1, abs=1e-5)  # the training forward's log-probs, not the engine's
    after = same_as_the_loop()
    assert before.shape != after.shape or not torch.equal(before, after)  # the step did change what is sampled


def test_sending_adapters_leaves_the_bf16_base_as_it_was(vllm, tmp_path, architecture):
    """TRL merges them into the weights and takes them out again, which bf16 rounds each time: the base would drift,
    and with it the reference, the policy without its adapters."""
    settings = {"rollout_engine": "vllm", "learning_rate": 0.05, "lora_rank": 2}
    sft_policy(architecture).save_pretrained(tmp_path)
    models = small_models(PPOSettings(**{**SETTINGS, **settings}), architecture)
    models.policy.name_or_path = str(tmp_path)
    models.freeze(bf16=True, four_bit=False)
    before = [p.clone() for p in models.policy.parameters() if not p.requires_grad]
    trainer = make_trainer(models=models, temperature=0.7, bf16=True, episodes=12, **settings)
    trainer.train(PROMPTS)
    trainer.roll_out(PROMPTS)
    assert {p.dtype for p in before} == {torch.bfloat16}
    after = [p for p in models.policy.parameters() if not p.requires_grad]
    assert all(torch.equal(p, q) for p, q in zip(before, after, strict=True))


def test_vllm_samples_as_the_loop_does(vllm, tmp_path):
    """Plain temperature sampling up to the limit, ended by the EOS alone."""
    sft_policy().save_pretrained(tmp_path)
    models = small_models(PPOSettings(**SETTINGS))
    models.policy.name_or_path = str(tmp_path)
    trainer = make_trainer(models=models, rollout_engine="vllm", vllm_memory_share=0.45)
    trainer.roll_out(PROMPTS)
    assert trainer.sampler.engine.llm.settings["gpu_memory_utilization"] == 0.45  # pyright: ignore[reportAttributeAccessIssue]
    asked = trainer.sampler.engine.llm.asked[0]  # pyright: ignore[reportAttributeAccessIssue]
    assert (asked.n, asked.temperature, asked.max_tokens, asked.stop_token_ids) == (1, 0.7, 6, [1])
    assert (asked.top_p, asked.top_k, asked.min_p, asked.repetition_penalty) == (1.0, 0, 0.0, 1.0)


@pytest.fixture
def one_process(tmp_path):
    """A group of this process alone."""
    torch.distributed.init_process_group("gloo", f"file://{tmp_path}/group", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.usefixtures("vllm", "one_process")
@pytest.mark.parametrize("in_shares", [False, True])
@pytest.mark.parametrize("options", [{}, {"lora_rank": 2}])
def test_weights_are_sent_whole_where_the_launcher_shards(tmp_path, monkeypatch, options, in_shares):
    """Under conf/accelerate/fsdp2.yaml TRL would ask parameters for their shares, which those it is handed have not."""
    monkeypatch.setattr(AcceleratorState, "fsdp_plugin", SimpleNamespace(fsdp_version=2), raising=False)
    settings = {"rollout_engine": "vllm", **options}
    sft_policy().save_pretrained(tmp_path)
    models = small_models(PPOSettings(**{**SETTINGS, **settings}))
    models.policy.name_or_path = str(tmp_path)
    policy = copy.deepcopy(models.policy)
    if in_shares:
        models.shard(torch.device("cpu"), bf16=False)
    trainer = make_trainer(models=models, temperature=0.0, **settings)
    loop = LoopSampler(lambda: policy, TOKENS, temperature=0.0, max_new_tokens=6)
    expected = loop.sample([p.token_ids for p in PROMPTS], 0, torch.arange(4), 4)
    assert torch.equal(trainer.roll_out(PROMPTS).input_ids, expected.input_ids)


def test_without_vllm_it_is_refused_and_auto_is_the_loop():
    with pytest.raises(
        ConfigError, match=r"^ppo\.rollout_engine must be auto, loop, or, where vLLM is installed .*'vllm'$"
    ):
        PPOSettings(rollout_engine="vllm")
    assert isinstance(make_trainer().sampler, LoopSampler)


def test_auto_is_the_loop_on_a_cpu_even_with_vllm(vllm):
    assert isinstance(make_trainer(rollout_engine="auto").sampler, LoopSampler)
