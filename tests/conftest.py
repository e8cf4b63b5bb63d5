"""Tiny models that the tests of every room share, and the axes of the annotations checked while they run."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from jaxtyping import install_import_hook
from transformers import AutoModelForSequenceClassification, PreTrainedModel, PreTrainedTokenizerFast

from bench.models import tiny
from bench.models.config import Architecture, ModelConfig

sys.path.insert(0, str(Path(__file__).parent))  # for what tests of several rooms share

TYPECHECKER = "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))"
"""An int is a float, as for pyright. What the import hook takes is source text."""

# Imported here, before any test imports them: only what is imported under the hook is checked.
with install_import_hook(["bench.records", "bench.ops", "bench.forward", "bench.losses"], TYPECHECKER):
    import bench.forward
    import bench.losses.dpo
    import bench.losses.ppo
    import bench.losses.reward
    import bench.ops
    import bench.records  # noqa: F401

# And these when a test asks for them: TRL takes seconds to import.
install_import_hook(
    [
        f"bench.train.{name}"
        for name in "ppo_experience ppo_models ppo_update ranks micro_batched pairs dpo reward".split()
    ],
    TYPECHECKER,
)

TEXTS = [
    "POST: the cat sat on the warm mat and slept all day. TL;DR: the cat slept.",
    "POST: a dog ran after the red ball and lost it in the river. TL;DR: the dog lost the ball.",
    "POST: my friend baked a cake for the party and forgot the sugar. TL;DR: the cake had no sugar.",
]
"""What the tokenizer is trained on."""

RUNS = {"finished", "all_arms"}
"""Fixtures that take a whole run; what asks for them is slow, though the first to ask pays for all."""


SLOW_ROOMS = {"train", "pipeline", "models", "forecast", "perf", "report", "cli", "audit"}
"""Their tests stand on made-up or real runs, models or commands: seconds to import, minutes together."""
QUICK = set(
    """
    audit/test_audit_log_odds audit/test_audit_measure cli/test_cache_answers cli/test_cache_stages
    forecast/test_memory forecast/test_plan forecast/test_shape models/test_strange_models models/test_tiny
    models/test_wheel pipeline/test_ahead pipeline/test_cache pipeline/test_evaluation
    pipeline/test_inventory pipeline/test_locks pipeline/test_outlook pipeline/test_run_folder
    report/test_precision report/test_summaries train/test_health_checks
    """.split()
)
"""The files of these rooms that take less than a second or two all the same."""
SLOW_FILES = {"test_reach", "cost/test_meter", "cost/test_cpu"}
"""Those of other rooms that read the whole source, or wait for the clock."""


def _is_slow(path: Path) -> bool:
    name = path.relative_to(Path(__file__).parent).with_suffix("").as_posix()
    return name in SLOW_FILES or (name.partition("/")[0] in SLOW_ROOMS and name not in QUICK)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """The fast tests do not wait until what slow ones import is there."""
    if config.option.markexpr == "not slow" and collection_path.is_file() and _is_slow(collection_path):
        return True
    return None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if _is_slow(item.path) or RUNS & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    return tiny.train_tokenizer(TEXTS, vocabulary=300, max_length=128)


@pytest.fixture(params=["llama", "gpt_neox"])
def architecture(request: pytest.FixtureRequest) -> Architecture:
    return request.param


@pytest.fixture(scope="session")
def make_policy(tokenizer: PreTrainedTokenizerFast) -> Callable[..., PreTrainedModel]:
    """make_policy(architecture, seed): a causal model whose next-token distributions are far from uniform."""

    def make(architecture: Architecture = "llama", seed: int = 0, hidden_size: int = 32) -> PreTrainedModel:
        config = ModelConfig(
            architecture=architecture, hidden_size=hidden_size, layers=2, heads=2, vocabulary=300, max_positions=128
        )
        return _spread(tiny.build(config, tokenizer, seed), seed).eval()

    return make


@pytest.fixture(scope="session")
def make_classifier(
    make_policy: Callable[..., PreTrainedModel],
) -> Callable[..., PreTrainedModel]:
    """make_classifier(architecture, seed): a reward model's network, with a head of its own."""

    def make(architecture: str = "llama", seed: int = 0, hidden_size: int = 32) -> PreTrainedModel:
        config = make_policy(architecture, seed, hidden_size).config
        config.num_labels = 1
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = AutoModelForSequenceClassification.from_config(config)
        return _spread(model, seed).eval()

    return make


@pytest.fixture
def one_thread() -> Iterator[None]:
    """As many threads as the processes that a test starts and compares with itself: several add in another order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def _spread(model: PreTrainedModel, seed: int) -> PreTrainedModel:
    """As built, the weights are so small that attention, norms and position hardly matter to the output."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.4 * torch.randn(parameter.shape, generator=generator))
    return model
