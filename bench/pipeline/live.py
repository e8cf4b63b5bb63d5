"""Training as it goes, shown elsewhere: TensorBoard, Trackio or Weights & Biases, for every trainer alike.

What is shown are the rows of `training/<stage>.jsonl`. Nothing is shown that is not written there, and nothing that
is computed hangs on it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.errors import ConfigError, ResourceError
from bench.progress import say

if TYPE_CHECKING:
    from bench.config import RunConfig

OnRows = Callable[[str, Sequence[Mapping[str, Any]]], None]
"""Called with a stage and its whole log, whenever it has grown."""
Log = Callable[[str, int, Mapping[str, float]], None]
"""Called with a stage, a step, and the numbers of its row."""


def check_report_to(report_to: str) -> None:
    """Refuse a tracker whose package is not there.

    Raises:
        ConfigError: says how to install it.
    """
    if report_to != "none" and find_spec(report_to) is None:
        raise ConfigError(
            f"report_to={report_to} needs a package that is not installed: pip install -e '.[{report_to}]', or"
            " report_to=none"
        )


@contextmanager
def shown_live(config: "RunConfig", folder: Path, settings: Mapping[str, Any]) -> Iterator[OnRows]:
    """What a run calls with its logs. A tracker that fails on the way is left alone: the run and its log go on.

    Args:
        folder: of the run; its name is the run's, and TensorBoard's files are in `tensorboard/` below it.

    Raises:
        ResourceError: the tracker cannot be started.
    """
    if config.report_to == "none":
        yield lambda stage, rows: None
        return
    try:
        log, close = _STARTED[config.report_to](config, folder, settings)
    except Exception as error:  # whatever a tracker raises, which is anything
        raise ResourceError(
            f"report_to={config.report_to} cannot be started ({_what(error)}); mend that, or set report_to=none"
        ) from error
    shown: dict[str, int] = {}
    lost = False

    def show(stage: str, rows: Sequence[Mapping[str, Any]]) -> None:
        nonlocal lost
        for row in rows[shown.get(stage, 0) :] if not lost else ():
            numbers = {name: float(value) for name, value in row.items() if name != "step" and value is not None}
            try:
                log(stage, int(row["step"]), numbers)
            except Exception as error:
                lost = True
                say(
                    f"report_to={config.report_to}: nothing more is shown ({_what(error)}); training/*.jsonl has it all"
                )
                return
        shown[stage] = len(rows)

    try:
        yield show
    finally:
        with suppress(Exception):
            close()


def _tensorboard(config: "RunConfig", folder: Path, settings: Mapping[str, Any]) -> tuple[Log, Callable[[], None]]:
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(str(folder / "tensorboard"))

    def log(stage: str, step: int, numbers: Mapping[str, float]) -> None:
        for name, value in numbers.items():
            writer.add_scalar(f"{stage}/{name}", value, step)

    return log, writer.close


def _wandb(config: "RunConfig", folder: Path, settings: Mapping[str, Any]) -> tuple[Log, Callable[[], None]]:
    import wandb  # type: ignore[import-not-found]

    run = wandb.init(project=config.name, name=folder.name, config=dict(settings), dir=str(folder))
    axes: set[str] = set()

    def log(stage: str, step: int, numbers: Mapping[str, float]) -> None:
        if stage not in axes:  # each stage has steps of its own
            run.define_metric(f"{stage}/*", step_metric=f"{stage}/step")
            axes.add(stage)
        run.log({f"{stage}/step": step, **{f"{stage}/{name}": value for name, value in numbers.items()}})

    return log, run.finish


def _trackio(config: "RunConfig", folder: Path, settings: Mapping[str, Any]) -> tuple[Log, Callable[[], None]]:
    import trackio  # type: ignore[import-not-found]

    trackio.init(project=config.name, name=folder.name, config=dict(settings))

    def log(stage: str, step: int, numbers: Mapping[str, float]) -> None:
        trackio.log({f"{stage}/step": step, **{f"{stage}/{name}": value for name, value in numbers.items()}})

    return log, trackio.finish


_STARTED = {"tensorboard": _tensorboard, "trackio": _trackio, "wandb": _wandb}


def _what(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())
