"""What a stage cost: wall time, memory, FLOPs, energy; and what the same FLOPs would take elsewhere."""

from bench.cost.config import CostConfig
from bench.cost.meter import StageCost, apart, metered
from bench.cost.summary import judge_cost, summed

__all__ = ["CostConfig", "StageCost", "apart", "judge_cost", "metered", "summed"]
