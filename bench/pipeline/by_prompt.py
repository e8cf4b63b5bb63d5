"""`by_prompt.json`: of every prompt what comparisons over runs are made of, small enough to be kept and shared.

Verdicts and completions say the same at hundreds of times the size, and completions may quote people's posts.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.evaluate.win_rate import points_by_prompt
from bench.files import write_jsonl
from bench.provenance import stable_hash
from bench.records import Completion, EvalPrompt, Verdict

BY_PROMPT = "by_prompt.json"


def write_by_prompt(
    folder: Path,
    prompts: Sequence[EvalPrompt],
    completions: Mapping[str, Sequence[Completion]],
    verdicts: Mapping[str, Sequence[Verdict]],
) -> None:
    """`prompts` (ids), `posts` (a hash of their texts), `points.<judge>.<a>_vs_<b>` (1, 0.5, 0 of a; null where
    unparsed) and `kl.<arm>` (nats), lists in the order of the prompts."""
    ids = [prompt.id for prompt in prompts]

    def column(values: Mapping[str, float]) -> list[float | None]:
        return [values.get(prompt_id) for prompt_id in ids]

    points: dict[str, dict[str, Any]] = {}
    for judge, of_judge in verdicts.items():
        duels: dict[str, list[Verdict]] = {}
        for verdict in of_judge:
            duels.setdefault(f"{verdict.arm_a}_vs_{verdict.arm_b}", []).append(verdict)
        points[judge] = {duel: column(points_by_prompt(rows)) for duel, rows in duels.items()}
    kl = {
        arm: column({row.prompt_id: round(row.kl, 5) for row in rows if row.kl is not None})
        for arm, rows in completions.items()
    }
    kept = {
        "prompts": ids,
        "posts": stable_hash({prompt.id: prompt.prompt for prompt in prompts}),
        "points": points,
        "kl": {arm: column for arm, column in kl.items() if any(value is not None for value in column)},
    }
    write_jsonl(folder / BY_PROMPT, [kept])  # one line: a number on each would be three times as large
