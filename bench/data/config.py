"""Where the data comes from. `data=synthetic` has its config beside its world, in `synthetic.py`."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

from bench.validation import require

IDENTICAL_PAIRS = ("error", "drop")
TIES = ("drop", "both_ways")


@dataclass(frozen=True)
class ColumnsConfig:
    """Which column of the user's files holds what.

    `id` and `reference` may be absent from a file as long as they keep their default names. `ranking` and `ratings`
    replace `chosen` and `rejected`.
    """

    id: str | None = "id"
    prompt: str = "prompt"
    post: str | None = None
    title: str | None = None
    subreddit: str | None = None
    chosen: str = "chosen"
    rejected: str = "rejected"
    tie: str | None = None
    ranking: str | None = None
    ratings: str | None = None
    reference: str | None = "reference"
    completion: str = "completion"

    def __post_init__(self) -> None:
        built_from_post = self.post is not None and self.title is not None
        require(
            self.title is None or self.post is not None,
            "data.columns.title",
            self.title,
            "must be given together with data.columns.post",
        )
        require(
            self.ratings is None or self.ranking is not None,
            "data.columns.ratings",
            self.ratings,
            "needs data.columns.ranking, the column of the summaries that are rated",
        )
        require(
            self.subreddit is None or built_from_post,
            "data.columns.subreddit",
            self.subreddit,
            "needs data.columns.post and data.columns.title",
        )


@dataclass(frozen=True)
class DemonstrationFilesConfig:
    """Path patterns, relative to data.root; `unsplit` replaces the other three. `columns` are those that differ."""

    unsplit: str | None = None
    train: str | None = "demonstrations/train.*"
    validation: str | None = "demonstrations/validation.*"
    test: str | None = "demonstrations/test.*"
    columns: Mapping[str, str | None] | None = None

    def __post_init__(self) -> None:
        known = [column.name for column in fields(ColumnsConfig)]
        for name in self.columns or {}:
            require(name in known, "data.demonstrations.columns", name, f"must name some of {', '.join(known)}")


@dataclass(frozen=True)
class PreferenceFilesConfig:
    """Path patterns, relative to data.root; `unsplit` replaces the other four."""

    unsplit: str | None = None
    train: str | None = "preferences/train.*"
    judge: str | None = None
    validation: str | None = "preferences/validation.*"
    test: str | None = "preferences/test.*"


@dataclass(frozen=True)
class FilesConfig:
    """A user's own JSONL, CSV or Parquet files."""

    kind: str = "files"
    root: str = "."
    demonstrations: DemonstrationFilesConfig = field(default_factory=DemonstrationFilesConfig)
    preferences: PreferenceFilesConfig = field(default_factory=PreferenceFilesConfig)
    columns: ColumnsConfig = field(default_factory=ColumnsConfig)
    demonstrations_from_chosen: bool = False
    demonstrations_from_references: bool = False
    reference_from_chosen: bool = False
    identical_pairs: str = "error"
    ties: str = "drop"
    judge_fraction: float = 0.25
    validation_fraction: float = 0.1
    test_fraction: float = 0.1
    split_seed: int = 0

    def __post_init__(self) -> None:
        _require_common(self.kind, "files", self.identical_pairs, self.judge_fraction)
        require(self.ties in TIES, "data.ties", self.ties, f"must be one of {', '.join(TIES)}")
        for name in ("validation_fraction", "test_fraction"):
            require(0 < getattr(self, name) < 1, f"data.{name}", getattr(self, name), "must be between 0 and 1")
        require(
            self.validation_fraction + self.test_fraction < 1,
            "data.validation_fraction + data.test_fraction",
            self.validation_fraction + self.test_fraction,
            "must be below 1",
        )
        demonstrations, preferences = self.demonstrations, self.preferences
        require(
            bool(self.demonstrations_from_chosen or demonstrations.unsplit or demonstrations.train),
            "data.demonstrations.train",
            demonstrations.train,
            "must name a file (SFT needs demonstrations;"
            " data.demonstrations_from_chosen=true uses the chosen summaries)",
        )
        for name in ("train", "validation"):
            require(
                bool(preferences.unsplit or getattr(preferences, name)),
                f"data.preferences.{name}",
                getattr(preferences, name),
                "must name a file (data.preferences.unsplit takes one file and splits it by post)",
            )


def require_scorer(key: str, path: str) -> None:
    """Raise a ConfigError where this can be no path of a scorer."""
    is_path = re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", path) is not None
    require(is_path, key, path, "must be module:name, such as my_package.rewards:MyReward")


@dataclass(frozen=True)
class KnownRewardConfig:
    """The reward that is taken for the truth about real text.

    Attributes:
        scorer: "module:name" of what makes the scorer: called with `settings`, and with `cache_dir`, where it may keep
            what it fetches, it gives a function of (prompts, summaries) that returns a number for each.
    """

    scorer: str = "bench.evaluate.known_reward:SimilarityReward"
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        require_scorer("data.reward.scorer", self.scorer)


@dataclass(frozen=True)
class ControlledConfig:
    """Real posts with a known reward: the files of `FilesConfig`, of which only the posts and human summaries are read.

    The preference pairs are made anew, of samples of the SFT model (`bench.stages.label`). Of unsplit files a tenth of
    the posts each is held out for validation and test.
    """

    validation_fraction: ClassVar[float] = 0.1
    test_fraction: ClassVar[float] = 0.1
    identical_pairs: ClassVar[str] = "drop"
    ties: ClassVar[str] = "drop"

    kind: str = "controlled"
    root: str = "."
    demonstrations: DemonstrationFilesConfig = field(default_factory=DemonstrationFilesConfig)
    preferences: PreferenceFilesConfig = field(default_factory=PreferenceFilesConfig)
    columns: ColumnsConfig = field(default_factory=ColumnsConfig)
    max_post_words: int | None = 80
    samples_per_post: int = 4
    pairs_per_post: int = 2
    sampling_temperature: float = 0.7
    preference_noise: float = 0.05
    reward: KnownRewardConfig = field(default_factory=KnownRewardConfig)
    judge_fraction: float = 0.0
    split_seed: int = 0

    def __post_init__(self) -> None:
        _require_common(self.kind, "controlled", "drop", self.judge_fraction)
        some = self.max_post_words is None or self.max_post_words >= 1
        require(some, "data.max_post_words", self.max_post_words, "must be at least 1, or null for whole posts")
        require(self.samples_per_post >= 2, "data.samples_per_post", self.samples_per_post, "must be at least 2")
        most = self.samples_per_post * (self.samples_per_post - 1) // 2
        require(
            1 <= self.pairs_per_post <= most,
            "data.pairs_per_post",
            self.pairs_per_post,
            f"must be at least 1 and at most {most}, the pairs of data.samples_per_post samples",
        )
        temperature = self.sampling_temperature
        require(temperature > 0, "data.sampling_temperature", temperature, "must be above 0: greedy samples are equal")
        require(self.preference_noise > 0, "data.preference_noise", self.preference_noise, "must be above 0")


@dataclass(frozen=True)
class TldrConfig:
    """Reddit TL;DR from the Hub: filtered demonstrations and OpenAI's human comparisons."""

    kind: str = "tldr"
    demonstrations_repository: str = "trl-lib/tldr"
    demonstrations_revision: str = "21233da376667088e6eb1ce4ce19ed832c2935d3"
    comparisons_repository: str = "openai/summarize_from_feedback"
    comparisons_revision: str = "195fc27ff714b2aff32ab8aba9bbee1d35663700"
    identical_pairs: str = "drop"
    judge_fraction: float = 0.25
    split_seed: int = 0

    def __post_init__(self) -> None:
        _require_common(self.kind, "tldr", self.identical_pairs, self.judge_fraction)
        _require_commit("demonstrations_revision", self.demonstrations_revision)
        _require_commit("comparisons_revision", self.comparisons_revision)


@dataclass(frozen=True)
class CnnDmConfig:
    """CNN/DailyMail 3.0.0 from the Hub: test articles only, for policies trained elsewhere."""

    kind: str = "cnn_dm"
    repository: str = "abisee/cnn_dailymail"
    revision: str = "96df5e686bee6baa90b8bee7c28b81fa3fa6223d"
    split_seed: int = 0

    def __post_init__(self) -> None:
        require(self.kind == "cnn_dm", "data.kind", self.kind, "must be 'cnn_dm'")
        _require_commit("revision", self.revision)


@dataclass(frozen=True)
class ArticlesConfig:
    """A file of articles with a summary each (JSONL, CSV or Parquet), for policies trained elsewhere.

    `article` and `summary` name the columns, `id` one that may be absent. The defaults are CNN/DM's.
    """

    path: str
    kind: str = "articles"
    article: str = "article"
    summary: str = "highlights"
    id: str | None = "id"
    split_seed: int = 0

    def __post_init__(self) -> None:
        require(self.kind == "articles", "data.kind", self.kind, "must be 'articles'")


def _require_common(kind: str, expected_kind: str, identical_pairs: str, judge_fraction: float) -> None:
    require(kind == expected_kind, "data.kind", kind, f"must be {expected_kind!r}")
    require(
        identical_pairs in IDENTICAL_PAIRS,
        "data.identical_pairs",
        identical_pairs,
        f"must be one of {', '.join(IDENTICAL_PAIRS)}",
    )
    require(0 <= judge_fraction < 1, "data.judge_fraction", judge_fraction, "must be at least 0 and below 1")


def _require_commit(name: str, revision: str) -> None:
    """A branch or tag can move, and then one config no longer names one data set."""
    is_commit = re.fullmatch(r"[0-9a-f]{40}", revision) is not None
    require(is_commit, f"data.{name}", revision, "must be a full commit (40 hex digits)")
