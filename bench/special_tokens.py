"""The two token ids that everything depends on, as plain integers."""

from transformers import PreTrainedTokenizerBase


def pad_id(tokenizer: PreTrainedTokenizerBase) -> int:
    return _plain(tokenizer.pad_token_id)


def eos_id(tokenizer: PreTrainedTokenizerBase) -> int:
    return _plain(tokenizer.eos_token_id)


def _plain(token_id: object) -> int:
    if not isinstance(token_id, int):
        raise TypeError(f"the tokenizer's special token must be one id, got {token_id!r}")
    return token_id
