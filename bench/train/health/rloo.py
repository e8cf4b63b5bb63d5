"""What watches RLOO, whose log is TRL's."""

from bench.train.health.check import GRAD_SPIKE, Checklist, not_finite
from bench.train.health.rollouts import POLICY
from bench.train.log import Row


def _in_our_words(row: Row) -> Row:
    """The row with TRL's names of what a policy's rollouts are like changed to those of PPO's log."""
    length, token_kl, cut = (row.get(key) for key in ("completions/mean_length", "kl", "completions/clipped_ratio"))
    return row | {
        "score": row.get("reward"),
        "score_std": row.get("reward_std"),
        "length_tokens": length,
        "kl_ref": None if token_kl is None or length is None else token_kl * length,
        "finished": None if cut is None else 1 - cut,
    }


RLOO = Checklist("rloo", (not_finite("loss", "grad_norm"), GRAD_SPIKE, *POLICY), _in_our_words)
