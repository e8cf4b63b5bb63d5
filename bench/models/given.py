"""Models that others have trained: policies, adapters and reward models, and whether they go with a run's tokenizer."""

from pathlib import Path

import torch
from peft import PeftConfig, PeftModel
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from bench.errors import ConfigError
from bench.models.config import PolicyConfig
from bench.models.loading import causal_config, causal_model, embeddings, explained
from bench.special_tokens import eos_id, pad_id

_SAMPLE = "SUBREDDIT: r/tifu\n\nTITLE: A day\n\nPOST: It's 7 o'clock, naïve me (again)...\n\nTL;DR: été"
_INSTEAD = "another model"


def check_policy(key: str, policy: PolicyConfig, tokenizer: PreTrainedTokenizerBase) -> None:
    """What can be known of a policy without its weights.

    Raises:
        ConfigError: it is no causal language model, or its tokenizer gives other ids than the run's.
        ResourceError: it is neither here nor to be had.
    """
    whole = policy.path if policy.kind == "checkpoint" else _base_of(policy)
    causal_config(whole, policy.revision if whole == policy.path else None)
    _require_same_ids(whole, key, tokenizer, policy.revision if whole == policy.path else None)


def load_given_policy(policy: PolicyConfig, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    """The policy as a plain model in fp32: an adapter is merged into the weights that it was trained on."""
    if policy.kind == "checkpoint":
        return causal_model(policy.path, policy.revision, tokenizer)
    model = causal_model(_base_of(policy), None, tokenizer)
    with explained(policy.path, _INSTEAD):
        adapted = PeftModel.from_pretrained(model, policy.path, revision=policy.revision)
    merged = adapted.merge_and_unload()
    assert isinstance(merged, PreTrainedModel)
    return merged


def require_same_vocabulary(model: PreTrainedModel, base: Path, key: str) -> None:
    """Its distributions must be over the tokens that the run's model has, or there is no KL between them.

    Args:
        base: the folder of the run's model.
        key: of the config, for the message.
    """
    ours = AutoConfig.from_pretrained(base, trust_remote_code=False).get_text_config().vocab_size
    theirs = embeddings(model)
    if theirs != ours:
        raise ConfigError(
            f"{key} has an embedding of {theirs} tokens, but the run's model one of {ours}: no KL between them; give a"
            " policy whose embedding was not resized, or resize it (model.resize_token_embeddings)"
        )


def check_reward(name: str, key: str, tokenizer: PreTrainedTokenizerBase) -> None:
    """What can be known of a reward model without its weights.

    Raises:
        ConfigError: it does not give one score, or its tokenizer gives other ids than the run's.
        ResourceError: it is neither here nor to be had.
    """
    with explained(name, _INSTEAD):
        config = AutoConfig.from_pretrained(name, trust_remote_code=False)
    if config.num_labels != 1:
        raise ConfigError(f"{key} ({name}) has {config.num_labels} labels; a reward model has one")
    _require_same_ids(name, key, tokenizer)


def load_given_reward(name: str, key: str, tokenizer: PreTrainedTokenizerBase, device: torch.device) -> PreTrainedModel:
    """A sequence classifier with one label, in fp32.

    Raises:
        ConfigError: it has no head in its file.
    """
    with explained(name, _INSTEAD):
        config = AutoConfig.from_pretrained(name, trust_remote_code=False)
        if config.pad_token_id is None and pad_id(tokenizer) < config.get_text_config().vocab_size:
            config.pad_token_id = pad_id(tokenizer)
        model, found = AutoModelForSequenceClassification.from_pretrained(
            name,
            config=config,
            dtype=torch.float32,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    if lacking := sorted(found["missing_keys"]):
        raise ConfigError(f"{key} ({name}) is no reward model: its file has no {lacking[0]}; give one that was trained")
    return model.to(device=device)


def _base_of(policy: PolicyConfig) -> str:
    """The model that an adapter is put on."""
    if policy.base is not None:
        return policy.base
    with explained(policy.path, _INSTEAD):
        found = PeftConfig.from_pretrained(policy.path).base_model_name_or_path
    if not found:
        raise ConfigError(f"the adapter {policy.path} does not name the model it was trained on; set its base")
    return found


def _require_same_ids(name: str, key: str, tokenizer: PreTrainedTokenizerBase, revision: str | None = None) -> None:
    """The same tokens with the same ids, and the same EOS; which token pads is of no matter."""
    with explained(name, _INSTEAD):
        theirs = AutoTokenizer.from_pretrained(name, revision=revision, trust_remote_code=False)
    without_pads = [
        {token: i for token, i in each.get_vocab().items() if i not in (tokenizer.pad_token_id, theirs.pad_token_id)}
        for each in (tokenizer, theirs)
    ]
    same = without_pads[0] == without_pads[1] and theirs.eos_token_id == eos_id(tokenizer)
    samples = [each(_SAMPLE, add_special_tokens=False).input_ids for each in (tokenizer, theirs)]
    if not same or samples[0] != samples[1]:
        raise ConfigError(
            f"{key} ({name}) has another tokenizer than the run's model; its policies say the same only with the same"
            " ids: take model.name from the family that it was trained from"
        )
