"""A run as far as its plan: everything that is read before the first stage, and no stage."""

from pathlib import Path

import torch

from bench import processes
from bench.config import RunConfig, check_batches
from bench.evaluate.judges.factory import check_judges
from bench.pipeline.ahead import Ahead, plan_ahead, require_budget
from bench.pipeline.cells import cells
from bench.pipeline.engine import Engine
from bench.pipeline.runner import _FEW_THREADS, _labelled, _stages, prepare_data


def dry_run(config: RunConfig, hardware: str = "here", measures: bool = True) -> Ahead:
    """The plan of the run; `hardware` and `measures` as in `plan_ahead`.

    Raises:
        UserError: what would stop the run before it loads a model.
    """
    if (threads := config.threads or _FEW_THREADS.get(config.model.kind)) is not None:
        torch.set_num_threads(threads)
    check_judges(config.judge, asks=False)
    check_batches(config, processes.count())
    cache_dir = Path(config.results_dir) / ".cache"
    data, tokenizer, _ = prepare_data(config, cache_dir)
    headline, grid = cells(config, data, tokenizer)
    engine = Engine(config, data, tokenizer, cache_dir)
    _labelled(engine, makes=False)
    require_budget(engine, (headline, *grid), _stages(config))
    return plan_ahead(engine, (headline, *grid), _stages(config), hardware, measures)
