"""Published data from the Hugging Face Hub at pinned commits: TL;DR, and CNN/DM to score out of distribution.

`fetch` alone uses the network; the parsers turn rows in the Hub's own schemas into records.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.data import splits
from bench.data.config import CnnDmConfig, TldrConfig
from bench.data.prompts import cnn_dm_prompt, tldr_prompt
from bench.errors import DataError, ResourceError
from bench.hub import without_hub_be_offline
from bench.records import ComparisonData, Demonstration, EvalPrompt, PreferencePair
from bench.validation import require

CNN_DM_BATCHES = frozenset({"batch0_cnndm", "cnndm0", "cnndm2"})
"""Batches of the comparisons that are about news, not about Reddit posts (Huang et al. 2024)."""

DEMONSTRATION_FILES = {split: f"data/{split}-*.parquet" for split in ("train", "validation", "test")}
# The main branch of the comparisons holds a loading script, which `datasets` no longer runs; these are files
# of the Hub's own Parquet conversion (refs/convert/parquet).
COMPARISON_FILES = {split: f"comparisons/{split}/*.parquet" for split in ("train", "validation")}
CNN_DM_FILES = {"test": "3.0.0/test-*.parquet"}
_TABLES = ("*.parquet", "*.jsonl", "*.json", "*.csv", "*.tsv", "*.gz", "*.arrow")


HUB = "hf://"
"""How `data.root` says that the files are a data set on the Hub: hf://OWNER/NAME, or hf://OWNER/NAME@REVISION."""


def hub_folder(root: str) -> Path:
    """The folder of a data set on the Hub, fetched or out of its cache.

    Raises:
        ConfigError: not hf://OWNER/NAME.
        ResourceError: neither the Hub nor its cache has it.
    """
    match = re.fullmatch(r"hf://([\w.-]+/[\w.-]+)(?:@([\w./-]+))?/?", root)
    require(match is not None, "data.root", root, "must be a folder, or hf://OWNER/NAME or hf://OWNER/NAME@REVISION")
    assert match is not None
    return _snapshot(match[1], match[2], _TABLES)


def load_tldr(config: TldrConfig) -> ComparisonData:
    """TL;DR demonstrations and human comparisons; the evaluation prompts are the demonstrations' test posts.

    Raises:
        ResourceError: the Hub cannot be reached and the commit is not in its cache.
        DataError: the repository does not hold the expected columns.
    """
    demonstration_rows = fetch(config.demonstrations_repository, config.demonstrations_revision, DEMONSTRATION_FILES)
    comparison_rows = fetch(config.comparisons_repository, config.comparisons_revision, COMPARISON_FILES)
    demonstrations = {
        split: parse_demonstrations(demonstration_rows[split], split) for split in ("train", "validation", "test")
    }
    dropped: Counter[str] = Counter()
    preferences = {}
    for split in ("train", "validation"):
        preferences[split], dropped_here = parse_comparisons(comparison_rows[split], split, config.identical_pairs)
        dropped.update(dropped_here)
    data = ComparisonData(
        demonstrations={split: demonstrations[split] for split in ("train", "validation")},
        preferences={**preferences, "judge": []},
        eval_prompts=splits.one_per_post(EvalPrompt(d.id, d.prompt, d.completion) for d in demonstrations["test"]),
        source={
            "name": "tldr",
            "demonstrations": f"{config.demonstrations_repository}@{config.demonstrations_revision}",
            "comparisons": f"{config.comparisons_repository}@{config.comparisons_revision}",
        },
        dropped=splits.add_counts(dropped, {}),
    )
    # The two repositories were split independently, and posts were submitted to Reddit more than once.
    data = splits.drop_leaks(data)
    return splits.carve_judge(data, config.judge_fraction, config.split_seed)


def load_cnn_dm(config: CnnDmConfig) -> ComparisonData:
    """CNN/DM test articles with their highlights as reference summaries; nothing to train on.

    Raises:
        ResourceError, DataError: as `load_tldr`.
    """
    rows = fetch(config.repository, config.revision, CNN_DM_FILES)
    return ComparisonData(
        demonstrations={"train": [], "validation": []},
        preferences={"train": [], "judge": [], "validation": []},
        eval_prompts=splits.one_per_post(parse_articles(rows["test"])),
        source={"name": "cnn_dm", "articles": f"{config.repository}@{config.revision}"},
    )


def fetch(repository: str, revision: str, files: Mapping[str, str]) -> dict[str, list[dict[str, Any]]]:
    """The rows of each split, from the Hub at exactly this commit or from the local Hub cache.

    Offline, `load_dataset(repository, revision=...)` falls back to the latest cached copy of *any* revision;
    a snapshot is found by its commit only, so the pin holds there too.

    Raises:
        ResourceError: neither the Hub nor its cache has the files.
    """
    # Imported here because they take seconds, and every command imports this room.
    import datasets
    from datasets.exceptions import DatasetsError

    folder = _snapshot(repository, revision, list(files.values()))
    try:
        for pattern in files.values():
            if not any(folder.glob(pattern)):
                raise FileNotFoundError(f"no file matches {pattern}")
        local_files = {split: str(folder / pattern) for split, pattern in files.items()}
        loaded = datasets.load_dataset("parquet", data_files=local_files)
        return {split: loaded[split].to_list() for split in files}
    except (OSError, DatasetsError) as error:
        raise _unavailable(repository, revision, error) from error


def _snapshot(repository: str, revision: str | None, patterns: Sequence[str]) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HTTPError  # pyright: ignore[reportPrivateImportUsage]

    without_hub_be_offline()
    try:
        return Path(
            snapshot_download(repository, repo_type="dataset", revision=revision, allow_patterns=list(patterns))
        )
    except (OSError, HTTPError) as error:
        raise _unavailable(repository, revision, error) from error


def _unavailable(repository: str, revision: str | None, error: Exception) -> ResourceError:
    reason = str(error).strip().split("\n")[0]
    return ResourceError(
        f"cannot get the data set {repository} at {(revision or 'main')[:10]}: {type(error).__name__}: {reason};"
        " it needs the Hub or a cache that has it (HF_HOME); data=files reads your files"
    )


def parse_demonstrations(rows: Iterable[Mapping[str, Any]], split: str) -> list[Demonstration]:
    """Demonstrations from `trl-lib/tldr` (prompt, completion) or the filtered TL;DR (id, post, summary, ...).

    Raises:
        DataError: other columns.
    """
    demonstrations = []
    for index, row in enumerate(rows):
        _require_columns(row, ("post",) if "post" in row else ("prompt", "completion"), "TL;DR demonstrations")
        if "post" in row:
            _require_columns(row, ("id", "subreddit", "title", "summary"), "TL;DR demonstrations")
            prompt, completion = tldr_prompt(row["subreddit"], row["title"], row["post"]), row["summary"]
        else:
            prompt, completion = row["prompt"].strip(), row["completion"]
        demonstrations.append(Demonstration(row.get("id") or f"{split}-{index:06d}", prompt, completion.strip()))
    return demonstrations


def parse_comparisons(
    rows: Iterable[Mapping[str, Any]], split: str, identical_pairs: str
) -> tuple[list[PreferencePair], Counter[str]]:
    """Preference pairs from `openai/summarize_from_feedback` (comparisons), and why rows were left out.

    News comparisons, rows without a choice and (`identical_pairs="drop"`) pairs of equal summaries are left
    out. The reference is the human summary where it is one of the two.

    Raises:
        DataError: other columns, or equal summaries under `identical_pairs="error"`.
    """
    pairs: list[PreferencePair] = []
    dropped: Counter[str] = Counter()
    for index, row in enumerate(rows):
        _require_columns(row, ("info", "summaries", "choice", "batch"), "TL;DR comparisons")
        info, choice = row["info"], row["choice"]
        if row["batch"] in CNN_DM_BATCHES:
            dropped["news comparisons (CNN/DM)"] += 1
            continue
        if choice not in (0, 1):
            dropped["ties"] += 1
            continue
        texts = [summary["text"].strip() for summary in row["summaries"]]
        if texts[0] == texts[1]:
            if identical_pairs == "error":
                raise DataError(
                    f"comparisons/{split}, row {index + 1}: chosen and rejected are equal;"
                    " data.identical_pairs=drop leaves such rows out"
                )
            dropped["identical pairs"] += 1
            continue
        references = [text for text, summary in zip(texts, row["summaries"], strict=True) if summary["policy"] == "ref"]
        pairs.append(
            PreferencePair(
                id=f"{info['id']}-{index:06d}",  # several pairs share a post
                prompt=tldr_prompt(info["subreddit"], info["title"], info["post"]),
                chosen=texts[choice],
                rejected=texts[1 - choice],
                reference=references[0] if references else None,
            )
        )
    return pairs, dropped


def parse_articles(rows: Iterable[Mapping[str, Any]]) -> list[EvalPrompt]:
    """Evaluation prompts from CNN/DM rows (id, article, highlights).

    Raises:
        DataError: other columns.
    """
    prompts = []
    for row in rows:
        _require_columns(row, ("id", "article", "highlights"), "CNN/DM")
        prompts.append(EvalPrompt(row["id"], cnn_dm_prompt(row["article"]), row["highlights"].strip()))
    return prompts


def _require_columns(row: Mapping[str, Any], names: Iterable[str], what: str) -> None:
    missing = [name for name in names if name not in row]
    if missing:
        raise DataError(
            f"{what} have no column {missing[0]!r} (columns: {', '.join(row)}); the repository and revision"
            " under data.* must hold the published schema"
        )
