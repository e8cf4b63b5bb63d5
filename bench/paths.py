"""Which of the fast ways to run a model are exact for it.

A probe (`bench.models.probe`) finds out; what it found is written into the model's config, and so goes with the weights
into every folder, every copy and every process. A model that was not probed takes the fast ways.
"""

from dataclasses import asdict, dataclass

from torch import nn
from transformers import PreTrainedModel

_KEY = "exact_paths"  # in config.json; absent where every fast way is exact


@dataclass(frozen=True)
class Paths:
    """The fast ways; where one is False, the slow one beside it is taken.

    Attributes:
        packed: rows without padding in one row of tokens; else padded rows.
        cached: sampling with a cache of keys and values; else the whole row runs for every token.
        linear_head: logits are the LM head's product with the hidden state; else the model's own forward makes them.
    """

    packed: bool = True
    cached: bool = True
    linear_head: bool = True

    @classmethod
    def of(cls, model: nn.Module) -> "Paths":
        """Those of a model or of its backbone."""
        return cls(**(getattr(model.config, _KEY, None) or {}))

    def write(self, model: PreTrainedModel) -> None:
        """Into the configs of the model and of its backbone."""
        for config in (model.config, model.base_model.config):
            if self == Paths():
                vars(config).pop(_KEY, None)
            else:
                setattr(config, _KEY, asdict(self))
