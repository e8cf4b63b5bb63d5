"""A file of articles with a summary each, in CNN/DM's schema or another: to score policies on text of another kind."""

import hashlib
from pathlib import Path

from bench.data.config import ArticlesConfig
from bench.data.local import read_rows
from bench.data.parse import text_of
from bench.data.prompts import cnn_dm_prompt
from bench.data.splits import one_per_post
from bench.errors import DataError
from bench.records import ComparisonData, EvalPrompt


def load_articles(config: ArticlesConfig) -> ComparisonData:
    """Evaluation prompts alone, one per distinct article.

    Raises:
        DataError: the file cannot be read, or a row lacks an article or a summary.
    """
    path = Path(config.path).expanduser()
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); set path to a file of articles") from error
    prompts = []
    for number, row in enumerate(read_rows(path, content)):
        texts = []
        for key in ("article", "summary"):
            column = getattr(config, key)
            if column not in row.cells:
                raise DataError(
                    f"{row.where}: no column {column!r} (columns: {', '.join(row.cells)}); set"
                    f" sets.<name>.data.{key} to the one that holds the {key}"
                )
            texts.append(text_of(row.cells[column], row, column))
        name = row.cells.get(config.id) if config.id else None
        prompts.append(EvalPrompt(str(number if name in (None, "") else name), cnn_dm_prompt(texts[0]), texts[1]))
    return ComparisonData(
        demonstrations={},
        preferences={},
        eval_prompts=one_per_post(prompts, f"{path}: two articles", "sets.<name>.data.id"),
        source={"name": "articles", path.name: "sha256:" + hashlib.sha256(content).hexdigest()},
    )
