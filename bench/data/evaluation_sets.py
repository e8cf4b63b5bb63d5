"""Which posts finished policies are scored on besides the headline's test posts."""

from dataclasses import dataclass
from typing import Literal

from bench.data.config import ArticlesConfig, CnnDmConfig, FilesConfig, TldrConfig
from bench.data.synthetic import SyntheticConfig
from bench.validation import require

Text = Literal["post", "news"]
"""What a set's prompts are; judges that are asked are asked about that."""


@dataclass(frozen=True)
class EvalSetConfig:
    """An evaluation set.

    Attributes:
        data: where it comes from; None for the run's own data.
        split: its test posts, or the posts of its validation demonstrations, which settings may be chosen on.
        prompts: at most so many; None for as many as the headline has.
        text: what the prompts are.
    """

    data: SyntheticConfig | FilesConfig | TldrConfig | CnnDmConfig | ArticlesConfig | None = None
    split: Literal["test", "validation"] = "test"
    prompts: int | None = None
    text: Text = "post"

    def __post_init__(self) -> None:
        require(
            self.data is not None or self.split != "test",
            "sets.<name>.split",
            self.split,
            "must be validation where sets.<name>.data is not given: the run's test posts are the headline's",
        )
        some = self.prompts is None or self.prompts >= 1
        require(some, "sets.<name>.prompts", self.prompts, "must be at least 1, or null")
