from dataclasses import asdict
from pathlib import Path

import pytest
import yaml

from bench.data.config import (
    CnnDmConfig,
    ColumnsConfig,
    DemonstrationFilesConfig,
    FilesConfig,
    PreferenceFilesConfig,
    TldrConfig,
)
from bench.errors import ConfigError

CONF = Path(__file__).parents[2] / "conf" / "data"


@pytest.mark.parametrize(("name", "config"), [("files", FilesConfig), ("tldr", TldrConfig), ("cnn_dm", CnnDmConfig)])
def test_the_yaml_holds_the_dataclass_and_explains_every_key(name, config):
    text = (CONF / f"{name}.yaml").read_text()
    assert yaml.safe_load(text) == asdict(config())
    lines = text.splitlines()
    keys = [i for i, line in enumerate(lines) if line.strip() and not line.lstrip().startswith("#")]
    assert keys and all(lines[i - 1].lstrip().startswith("# ") for i in keys)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: FilesConfig(kind="tldr"), r"data\.kind must be 'files', got 'tldr'"),
        (
            lambda: FilesConfig(identical_pairs="keep"),
            r"data\.identical_pairs must be one of error, drop, got 'keep'",
        ),
        (
            lambda: FilesConfig(judge_fraction=1.0),
            r"data\.judge_fraction must be at least 0 and below 1, got 1\.0",
        ),
        (lambda: FilesConfig(test_fraction=0.0), r"data\.test_fraction must be between 0 and 1, got 0\.0"),
        (lambda: FilesConfig(validation_fraction=0.5, test_fraction=0.5), r"must be below 1, got 1\.0"),
        (
            lambda: FilesConfig(demonstrations=DemonstrationFilesConfig(train=None)),
            r"data\.demonstrations\.train must name a file .*demonstrations_from_chosen=true.*, got None",
        ),
        (
            lambda: FilesConfig(preferences=PreferenceFilesConfig(validation=None)),
            r"data\.preferences\.validation must name a file .*data\.preferences\.unsplit",
        ),
        (
            lambda: ColumnsConfig(title="headline"),
            r"data\.columns\.title must be given together with data\.columns\.post",
        ),
        (lambda: ColumnsConfig(subreddit="sub"), r"data\.columns\.subreddit needs data\.columns\.post"),
        (
            lambda: TldrConfig(comparisons_revision="main"),
            r"data\.comparisons_revision must be a full commit .*'main'",
        ),
        (
            lambda: TldrConfig(demonstrations_revision="21233da"),
            r"data\.demonstrations_revision must be a full commit",
        ),
        (
            lambda: CnnDmConfig(revision="main"),
            r"data\.revision must be a full commit \(40 hex digits\), got 'main'",
        ),
        (lambda: CnnDmConfig(kind="tldr"), r"data\.kind must be 'cnn_dm', got 'tldr'"),
    ],
)
def test_a_bad_value_is_one_clear_line(build, message):
    with pytest.raises(ConfigError, match=message):
        build()


def test_unsplit_files_need_no_split_files():
    FilesConfig(
        demonstrations=DemonstrationFilesConfig(unsplit="demos.csv", train=None),
        preferences=PreferenceFilesConfig(unsplit="pairs.csv", train=None, validation=None),
    )
