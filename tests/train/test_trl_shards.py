"""TRL's trainers with the weights in shares (FSDP 2) take the steps of one process that has the whole.

accelerate shards on accelerators alone: it is told here that the CPUs are one, and runs its own code and torch's, over
gloo.
"""

from pathlib import Path
from typing import Any

import pytest
import test_trl_processes as whole
import yaml
from accelerate.state import DistributedType, PartialState

from bench.files import read_json
from bench.models.loading import save_policy

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]
CONFIG = Path(__file__).parents[2] / "conf" / "accelerate" / "fsdp2.yaml"
BLOCKS = {"llama": "LlamaDecoderLayer", "gpt_neox": "GPTNeoXLayer"}


@pytest.fixture
def cpus_are_an_accelerator(monkeypatch: pytest.MonkeyPatch):
    begin = PartialState.__init__

    def as_if(self: PartialState, *args: Any, **kwargs: Any) -> None:
        begin(self, *args, **kwargs)
        if self.distributed_type is DistributedType.MULTI_CPU:
            self.distributed_type = DistributedType.MULTI_GPU

    monkeypatch.setattr(PartialState, "__init__", as_if)


def told_by(config: Path, block: str) -> dict[str, str]:
    """The environment in which `accelerate launch --config_file` starts its processes."""
    settings = yaml.safe_load(config.read_text())["fsdp_config"]
    named = {
        name.upper(): str(value).lower() if isinstance(value, bool) else str(value) for name, value in settings.items()
    }
    return {"ACCELERATE_USE_FSDP": "true", "FSDP_TRANSFORMER_CLS_TO_WRAP": block} | named


@pytest.mark.usefixtures("cpus_are_an_accelerator")
@pytest.mark.parametrize(
    ("architecture", "count", "more"),
    [
        ("llama", 2, {}),
        pytest.param("gpt_neox", 2, {}, marks=pytest.mark.long),
        pytest.param("llama", 4, {}, marks=pytest.mark.long),
        pytest.param("llama", 2, {"lora_rank": 4}, marks=pytest.mark.long),
    ],
    ids=str,
)
def test_shares_train_what_whole_models_do(
    architecture: str, count: int, more: dict[str, Any], make_policy, tokenizer, tmp_path: Path
):
    save_policy(make_policy(architecture), tokenizer, tmp_path / "model")
    environment = told_by(CONFIG, BLOCKS[architecture])
    whole.in_both_ways(tmp_path / "model", tmp_path, False, count, environment, **more)

    for name in ("sft", "reward", "dpo"):
        whole.assert_moved(tmp_path, name)
        whole.assert_alike(tmp_path, name, 0, norm=1e-4 if more else 1e-5)  # adapters' gradients are small


@pytest.mark.long
@pytest.mark.usefixtures("cpus_are_an_accelerator")
@pytest.mark.parametrize("more", [{}, {"lora_rank": 4}], ids=str)
def test_in_bf16_shares_train_within_its_rounding(more: dict[str, Any], make_policy, tokenizer, tmp_path: Path):
    """fp32 weights, whose blocks compute in bf16 by autocast; one process has bf16 weights over fp32 masters."""
    save_policy(make_policy(), tokenizer, tmp_path / "model")
    whole.in_both_ways(tmp_path / "model", tmp_path, True, 2, told_by(CONFIG, BLOCKS["llama"]), **more)

    for name in ("sft", "reward", "dpo"):
        whole.assert_moved(tmp_path, name)
        shares, alone = (read_json(tmp_path / who / f"{name}.json") for who in ("0", "alone"))
        assert len(shares) == len(alone)
        assert shares[0]["loss"] == pytest.approx(alone[0]["loss"], rel=2**-6)
        assert shares[-1]["loss"] == pytest.approx(alone[-1]["loss"], rel=0.1, abs=0.02)
