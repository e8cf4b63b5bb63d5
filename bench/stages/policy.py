"""A policy that was trained elsewhere: loaded, probed, and kept in a folder like those that are trained here."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.files import write_json
from bench.models.attention import wanted_of
from bench.models.config import PolicyConfig
from bench.models.given import load_given_policy, require_same_vocabulary
from bench.models.loading import folder_content
from bench.models.probe import probe
from bench.records import ComparisonData
from bench.stages.base import PROBE
from bench.stages.context import Built, StageContext

if TYPE_CHECKING:
    from bench.config import RunConfig


def needs(config: "RunConfig", data: ComparisonData, *, name: str) -> dict[str, Any]:
    policy = config.policies[name]
    return {
        "policy": policy,
        "content": [folder_content(path) for path in (policy.path, policy.base or "") if path],
    }


def build(
    context: StageContext, inputs: Mapping[str, Path], folder: Path, *, policy: PolicyConfig, content: list[str]
) -> Built:
    model = load_given_policy(policy, context.tokenizer)
    require_same_vocabulary(model, inputs["base"], policy.path)
    found = probe(model, policy.path, wanted_of(inputs["base"]))
    context.save(model, folder)
    write_json(folder / PROBE, found.to_dict())
    return Built()
