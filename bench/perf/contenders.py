"""Who is measured: our trainers and sampler, and their peers at default and at their best CPU settings."""

from dataclasses import dataclass

TASKS = ("dpo", "reward", "sft", "ppo", "sampling")
UNITS = {
    "dpo": "pairs/s", "reward": "pairs/s", "sft": "tokens/s", "ppo": "episodes/s", "sampling": "tokens/s"
}  # fmt: skip


@dataclass(frozen=True)
class Contender:
    """One implementation of a task at one setting. `dtype` is what its matrix products run in."""

    task: str
    name: str
    dtype: str  # fp32 or bf16
    description: str

    @property
    def key(self) -> str:
        return f"{self.task}/{self.name}"


def contenders(task: str, fast_dtype: str, with_trl_1_12: bool) -> list[Contender]:
    """The contenders of a task, ours first.

    Args:
        fast_dtype: the dtype in which this processor multiplies fastest, measured; ours and the peers' best use it.
    """
    ours = Contender(task, "ours", fast_dtype, f"this project, {fast_dtype}")
    if task == "sampling":
        peers = [
            Contender(task, "generate_bf16", "bf16", "transformers generate, bf16 weights"),
            Contender(task, "generate_fp32", "fp32", "transformers generate, fp32"),
        ]
    elif task == "ppo":
        peers = [
            Contender(task, f"trl_1_12_{dtype}", dtype, f"TRL 1.12.0 PPOTrainer, {dtype}") for dtype in ("bf16", "fp32")
        ]
        if not with_trl_1_12:
            peers = []
    else:
        best = "no checkpointing" + (", reference once" if task == "dpo" else "")
        peers = [
            Contender(task, "trl_default", "bf16", "stock TRL, defaults: bf16 autocast, activation checkpointing"),
            Contender(task, "trl_best", fast_dtype, f"stock TRL, {fast_dtype}, {best}"),
        ]
        if fast_dtype == "bf16":  # whose autocast may cost more than its products save
            peers.append(Contender(task, "trl_best_fp32", "fp32", f"stock TRL, fp32, {best}"))
    if fast_dtype == "bf16":
        ours_fp32 = Contender(task, "ours_fp32", "fp32", "this project, fp32")
        return [ours, ours_fp32, *peers]
    return [ours, *peers]
