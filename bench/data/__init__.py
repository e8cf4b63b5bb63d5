"""Raw text to records: where the data comes from, how prompts are written, and how posts are split."""

from bench.data.articles import load_articles
from bench.data.config import ArticlesConfig, CnnDmConfig, ControlledConfig, FilesConfig, TldrConfig
from bench.data.controlled import load_controlled
from bench.data.hub import load_cnn_dm, load_tldr
from bench.data.local import load_files
from bench.data.prompts import completion_text, truncate_prompts, without_written_eos
from bench.data.splits import SplitLimits, check_no_leak, split_hash, subsample
from bench.data.statistics import counted_at_once, data_statistics, format_statistics
from bench.data.synthetic import SyntheticConfig, build
from bench.records import ComparisonData

DataConfig = SyntheticConfig | FilesConfig | ControlledConfig | TldrConfig | CnnDmConfig | ArticlesConfig

__all__ = [
    "ArticlesConfig",
    "CnnDmConfig",
    "ControlledConfig",
    "DataConfig",
    "FilesConfig",
    "SplitLimits",
    "SyntheticConfig",
    "TldrConfig",
    "check_no_leak",
    "completion_text",
    "counted_at_once",
    "data_statistics",
    "format_statistics",
    "load",
    "split_hash",
    "split_seed",
    "subsample",
    "truncate_prompts",
    "without_written_eos",
]


def load(config: DataConfig, seed: int) -> ComparisonData:
    """The data a config names, no post in two splits.

    `seed` draws the built-in world. Given data is split by `data.split_seed`, whatever the run's seed, so
    that runs of several seeds are scored on the same posts.

    Raises:
        DataError: the data cannot be used; the message names the file and row.
        ResourceError: the Hub is needed and cannot be reached.
    """
    match config:
        case SyntheticConfig():
            data = build(config, seed)
        case FilesConfig():
            data = load_files(config)
        case ControlledConfig():
            data = load_controlled(config)
        case TldrConfig():
            data = load_tldr(config)
        case CnnDmConfig():
            data = load_cnn_dm(config)
        case ArticlesConfig():
            data = load_articles(config)
    check_no_leak(data)
    return data


def split_seed(config: DataConfig, seed: int) -> int:
    """What draws the rows that a budget keeps: `data.split_seed`, or the run's `seed` in the built-in world.

    Runs of several seeds then train on the same pairs and are scored on the same posts: their spread is that of
    training (initial weights, order, sampling). Every seed of the built-in world is a world of its own.
    """
    return seed if isinstance(config, SyntheticConfig) else config.split_seed
