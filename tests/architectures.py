"""Small random models of the architectures that people bring, in one list."""

from collections.abc import Mapping
from typing import Any

import torch
import transformers
from transformers import AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel

VOCABULARY, WINDOW = 300, 8

_IDS: dict[str, Any] = {"vocab_size": VOCABULARY, "pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 1}
_LIKE_LLAMA: dict[str, Any] = {
    **_IDS, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "max_position_embeddings": 512,
}  # fmt: skip
_GROUPED: dict[str, Any] = {**_LIKE_LLAMA, "num_key_value_heads": 2}
_LIKE_GPT2: dict[str, Any] = {**_IDS, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 512}
_NO_FFN: dict[str, Any] = {name: value for name, value in _LIKE_LLAMA.items() if name != "intermediate_size"}
_EXPERTS: dict[str, Any] = {"num_experts_per_tok": 2, "moe_intermediate_size": 16}

CONFIGS: Mapping[str, tuple[str, dict[str, Any]]] = {
    "llama": ("LlamaConfig", _LIKE_LLAMA),
    "qwen2": ("Qwen2Config", _GROUPED),
    "qwen3": ("Qwen3Config", {**_GROUPED, "head_dim": 8}),
    "gemma": ("GemmaConfig", {**_GROUPED, "head_dim": 8}),
    "olmo2": ("Olmo2Config", _LIKE_LLAMA),
    "phi": ("PhiConfig", _LIKE_LLAMA),
    "opt": ("OPTConfig", {**_NO_FFN, "ffn_dim": 64, "word_embed_proj_dim": 32}),
    "gpt2": ("GPT2Config", _LIKE_GPT2),
    "gpt_neox": ("GPTNeoXConfig", _LIKE_LLAMA),
    "gpt_bigcode": ("GPTBigCodeConfig", _LIKE_GPT2),
    "gptj": ("GPTJConfig", {**_LIKE_GPT2, "rotary_dim": 4}),
    "glm": ("GlmConfig", {**_GROUPED, "head_dim": 8}),
    "smollm3": ("SmolLM3Config", _GROUPED),
    "deepseek_v3": (
        "DeepseekV3Config",
        {
            **_LIKE_LLAMA, **_EXPERTS, "num_key_value_heads": 4, "n_routed_experts": 4, "n_group": 1, "topk_group": 1,
            "kv_lora_rank": 8, "q_lora_rank": 8, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 8,
            "first_k_dense_replace": 1,
        },
    ),
    "granite": ("GraniteConfig", {**_GROUPED, "logits_scaling": 8.0}),
    "cohere": ("CohereConfig", {**_GROUPED, "logit_scale": 0.0625}),
    "gemma2": (
        "Gemma2Config", {**_GROUPED, "head_dim": 8, "sliding_window": WINDOW, "final_logit_softcapping": 3.0},
    ),
    "gemma3_text": (
        "Gemma3TextConfig", {**_GROUPED, "num_hidden_layers": 6, "head_dim": 8, "sliding_window": WINDOW},
    ),
    "mistral": ("MistralConfig", {**_GROUPED, "sliding_window": WINDOW}),
    "phi3": ("Phi3Config", {**_GROUPED, "sliding_window": WINDOW}),
    "starcoder2": ("Starcoder2Config", {**_GROUPED, "sliding_window": WINDOW}),
    "stablelm": ("StableLmConfig", _GROUPED),
    "nemotron": ("NemotronConfig", {**_GROUPED, "head_dim": 8}),
    "falcon": ("FalconConfig", {**_NO_FFN, "alibi": False}),
    "falcon_alibi": ("FalconConfig", {**_NO_FFN, "alibi": True}),
    "bloom": ("BloomConfig", {**_IDS, "hidden_size": 32, "n_layer": 2, "n_head": 4}),
    "mpt": ("MptConfig", {**_IDS, "d_model": 32, "n_heads": 4, "n_layers": 2, "max_seq_len": 512}),
    "gpt_neo": (
        "GPTNeoConfig",
        {
            **_IDS, "hidden_size": 32, "num_layers": 2, "num_heads": 4, "max_position_embeddings": 512,
            "window_size": WINDOW, "attention_types": [[["global", "local"], 1]],
        },
    ),
    "codegen": ("CodeGenConfig", {**_LIKE_GPT2, "rotary_dim": 4}),
    "qwen3_next": (
        "Qwen3NextConfig",
        {
            **_GROUPED, **_EXPERTS, "head_dim": 8, "num_experts": 4, "shared_expert_intermediate_size": 16,
            "linear_num_key_heads": 2, "linear_num_value_heads": 2, "linear_key_head_dim": 8,
            "linear_value_head_dim": 8, "layer_types": ["linear_attention", "full_attention"],
        },
    ),
    "bert": ("BertConfig", _LIKE_LLAMA),
    "mamba": ("MambaConfig", {**_IDS, "hidden_size": 32, "num_hidden_layers": 2}),
}  # fmt: skip

CAUSAL = [name for name in CONFIGS if name != "bert"]
NO_REWARD = frozenset({"granite", "cohere", "codegen", "mamba"})
"""Of which transformers has no class for sequence classification."""


def config_of(name: str, **changes: Any) -> PreTrainedConfig:
    kind, values = CONFIGS[name]
    return getattr(transformers, kind)(**{**values, **changes})


def make(name: str, seed: int = 0, **changes: Any) -> PreTrainedModel:
    """Its distributions are far from uniform, and depend on attention, positions and norms."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config_of(name, **changes), trust_remote_code=False)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.3 * torch.randn(parameter.shape))
    return model.eval()
