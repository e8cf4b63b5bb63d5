"""By which attention a model's layers run, where the config says: refused where it cannot be, kept with the weights.

In the place of a kernel that stands as it is, packing puts calls of its own, and the sampler's cache a mask; both know
sdpa. By eager attention rows run padded; by the kernels that are a GPU's alone they do too, and the sampler runs whole
rows for every token.
"""

from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from bench.errors import ConfigError
from bench.files import read_json
from bench.models.config import Attention

ON_GPU: tuple[Attention, ...] = ("flash_attention_2", "flex_attention")
"""Kernels that no CPU trains by."""
_KEY = "attends_by"  # in config.json; absent where the model attends as transformers has it


def attention_of(folder: Path) -> dict[str, Any]:
    """What `from_pretrained` is told of the attention of a model that was saved to `folder`."""
    wanted = read_json(folder / "config.json").get(_KEY)
    return {} if wanted is None else {"attn_implementation": wanted}


def wanted_of(folder: Path) -> Attention:
    """As the config had it."""
    return attention_of(folder).get("attn_implementation", "auto")


def attend(model: PreTrainedModel, wanted: Attention, name: str) -> None:
    """Make the model attend so, here and in every folder that it is saved to.

    Raises:
        ConfigError: it cannot.
    """
    if wanted == "auto":
        return
    try:
        model.set_attn_implementation(wanted)
        why = "" if model.config._attn_implementation == wanted else "transformers has its own for it alone"
    except (ImportError, ValueError) as error:
        why = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
    if why:
        raise ConfigError(f"model.attn_implementation is {wanted}, by which {name} cannot attend ({why}); use auto")
    setattr(model.config, _KEY, wanted)
