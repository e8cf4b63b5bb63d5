"""Bradley-Terry strengths, in the middle of the scale and near always and never."""

from itertools import combinations

from scipy.special import expit

from bench.evaluate.bradley_terry import bradley_terry
from bench.evaluate.simulation.row import COVERAGE, Rng, Row, Study, holds, share_of

WORLDS = (
    (48, {"base": -2.5, "sft": 0.0, "ppo": 0.8, "dpo": 1.1, "reference": 0.0}),
    (256, {"base": -2.5, "sft": 0.0, "ppo": 0.8, "dpo": 1.1, "reference": 0.0}),
    (48, {"base": -4.0, "sft": -0.7, "ppo": 0.8, "dpo": 4.0, "reference": 0.0}),
    (256, {"base": -4.0, "sft": -0.7, "ppo": 0.8, "dpo": 4.0, "reference": 0.0}),
    (48, {"base": -7.0, "ppo": 0.8, "reference": 0.0}),
    (256, {"base": -7.0, "ppo": 0.8, "reference": 0.0}),
)
RARELY = 0.5
"""Expected wins (or losses) against the reference below which coverage is as coarse as the wins are."""
COARSE = (0.87, 1.0)


def strength_coverage(
    strengths: dict[str, float], n: int, repetitions: int, rng: Rng, shared: float = 1.0, resamples: int = 200
) -> dict[str, float]:
    """arm -> share of Bradley-Terry intervals that hold its true strength; "reference" is in `strengths`, at 0.

    On a share `shared` of a prompt's duels one draw settles the outcome, so that they depend on one another as the
    duels on one hard post do.
    """
    arms = sorted(strengths)
    prompts = [f"p{i}" for i in range(n)]
    hits: dict[str, list[bool]] = {arm: [] for arm in arms if arm != "reference"}
    for seed in range(repetitions):
        common = rng.random(n)
        points = {}
        for a, b in combinations(arms, 2):
            own = rng.random(n)
            luck = (
                common if shared == 1 else [c if rng.random() < shared else o for c, o in zip(common, own, strict=True)]
            )
            won = luck < expit(strengths[a] - strengths[b])
            points[a, b] = dict(zip(prompts, won.astype(float).tolist(), strict=True))
        found = bradley_terry(points, "reference", seed, resamples)
        for arm, of_arm in hits.items():
            of_arm.append(holds(found[arm]["ci95"], strengths[arm]))
    return {arm: share_of(of_arm) for arm, of_arm in hits.items()}


def _study(n: int, strengths: dict[str, float]) -> Study:
    def measure(repetitions: int, rng: Rng) -> list[Row]:
        rows = []
        for arm, share in strength_coverage(strengths, n, repetitions, rng).items():
            rare = n * expit(-abs(strengths[arm]))
            promised, limit = (COARSE, f"{rare:.2g} wins expected: coarse") if rare < RARELY else (COVERAGE, "")
            world = f"n {n}, {arm} at {strengths[arm]:+.1f}"
            rows.append(Row("Bradley-Terry strength covers", world, share, promised, repetitions, limit))
        return rows

    return Study(f"strengths, n {n}, {min(strengths.values()):+.1f}", measure)


STUDIES = [_study(n, strengths) for n, strengths in WORLDS]
