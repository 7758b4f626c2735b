"""The same verdicts from a second computation, which shares nothing with the first.

Three hundred random experiments are judged, and computed here from their raw item scores with numpy,
fractions and binomial sums alone. Scores lie on a grid of hundredths, so that means, effects and sign-flip p
are exact here, and a tie is a tie.
"""

from __future__ import annotations

import gc
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from claimbook.records import Verdict

Build = Callable[..., Any]
Run = tuple[str, int]
"""Arm or control, and seed."""
ARMS = ("baseline", "treatment")
EXPERIMENTS = 300
NAME = "siglip-small-batch"


@dataclass
class Experiment:
    """What was sealed, and the raw scores of its runs."""

    kind: str
    scope: str
    direction: str
    margin: Fraction
    alpha: Fraction
    seeds: list[int]
    controls: list[str]
    clusters: list[str]
    """Of each item; items are numbered."""
    scores: dict[Run, np.ndarray] = field(default_factory=dict)
    """Hundredths, one per item."""
    again: dict[Run, np.ndarray] = field(default_factory=dict)
    """Later runs of the same arm and seed."""
    chance: dict[Run, int] = field(default_factory=dict)
    """Hundredths, of the controls' runs."""
    family: dict[str, float | None] = field(default_factory=dict)
    deviates: bool = False
    """Whether a seed was run that is not registered."""


# random experiments


def an_experiment(number: int) -> Experiment:
    """The experiment of this number: every kind, scope, direction, size of noise and true effect."""
    world = np.random.default_rng([2026, number])
    scope = str(world.choice(["method", "checkpoints"]))
    binary = world.random() < 0.3
    made = Experiment(
        kind=str(world.choice(["superiority", "non-inferiority", "equivalence"])),
        scope=scope,
        direction=str(world.choice(["higher", "lower"])),
        margin=Fraction(str(world.choice(["0.02", "0.05", "0.1"]))),
        alpha=Fraction(str(world.choice(["0.01", "0.05", "0.05", "0.1", "0.2"]))),
        seeds=list(range(world.integers(2, 12))) if scope == "method" else [0],
        controls=[["blind", "shuffled"][n] for n in range(world.choice([0, 0, 1, 2]))],
        clusters=some_clusters(world, scope, binary),
        deviates=world.random() < 0.05,
    )
    units = len(made.seeds) if scope == "method" else len(set(made.clusters))
    effect = float(made.margin) * world.choice([-2, -1, 0, 0.5, 1, 2])
    better = effect if made.direction == "higher" else -effect
    spread = float(made.margin) * math.sqrt(units) * world.choice([0.1, 0.4, 1.5])
    items = len(made.clusters)
    difficulty = world.uniform(0.3, 0.7, items)
    for seed in made.seeds:
        baseline = difficulty + world.normal(0, spread / 3, items)
        noise = world.normal(0, spread) if scope == "method" else world.normal(0, spread, items)
        made.scores["baseline", seed] = hundredths(world, baseline, binary)
        made.scores["treatment", seed] = hundredths(world, baseline + better + noise, binary)
    if world.random() < 0.04:  # the seed changes nothing
        made.scores = {(arm, seed): made.scores[arm, 0] for arm, seed in made.scores}
    for name in made.controls:
        leak = float(made.margin) * world.choice([0, 0, 0.3, 2])
        for seed in made.seeds:
            made.chance[name, seed] = int(world.integers(10, 40))
            excess = leak + world.normal(0, spread / 4, items)
            made.scores[name, seed] = hundredths(world, made.chance[name, seed] / 100 + excess, binary=False)
    for run in made.scores:
        if world.random() < 0.1:
            made.again[run] = hundredths(world, world.uniform(0, 1, items), binary)
    others = world.integers(0, 12)
    low = [float(world.choice([0.0005, 0.02, 0.3, 0.9]) * world.random()) for _ in range(others)]
    made.family = {f"other-{n}": p if world.random() < 0.7 else None for n, p in enumerate(low)}
    if world.random() < 0.2:
        made.family[NAME] = 0.001  # an earlier verdict of the same experiment
    return made


def some_clusters(world: np.random.Generator, scope: str, binary: bool) -> list[str]:
    if scope == "method":
        return [f"c{n // 2}" for n in range(world.integers(1, 9))]
    if binary and world.random() < 0.7:
        return [f"c{n:03d}" for n in range(world.integers(2, 150))]
    few = world.random() < 0.8
    clusters = world.integers(2, 15) if few else world.integers(17, 41)
    return [f"c{n:02d}" for n in range(clusters) for _ in range(world.integers(1, 5))]


def hundredths(world: np.random.Generator, scores: np.ndarray, binary: bool) -> np.ndarray:
    if binary:
        return 100 * (world.uniform(0, 1, len(scores)) < scores).astype(np.int64)
    return np.rint(100 * scores).astype(np.int64)


def judged(experiment: Experiment, by_seed: Build) -> Verdict:
    """The verdict of claimbook on records of this experiment, whose items and runs come in any order."""
    study = by_seed(
        [0.0] * len(experiment.seeds),
        {name: [] for name in experiment.controls},
        kind=experiment.kind,
        scope=experiment.scope,
        direction=experiment.direction,
        margin=float(experiment.margin),
        alpha=float(experiment.alpha),
    )
    study.runs, study.items = [], {}
    world = np.random.default_rng(len(experiment.clusters))

    def add(run: Run, scores: np.ndarray) -> None:
        order = world.permutation(len(scores))
        columns = {
            "item": [f"item-{n}" for n in order],
            "cluster": [experiment.clusters[n] for n in order],
            "recall@1": [int(scores[n]) / 100 for n in order],
        }
        chance = {"recall@1": experiment.chance[run] / 100} if run in experiment.chance else {}
        study.add(*run, columns, chance=chance)

    for run, scores in [*experiment.scores.items(), *experiment.again.items()]:
        add(run, scores)
    if experiment.deviates:
        add(("treatment", 99), experiment.scores["treatment", 0])
    study.runs = [study.runs[n] for n in world.permutation(len(study.runs))]
    verdict = study.judge(family=experiment.family)
    assert isinstance(verdict, Verdict)
    return verdict


# the second computation


def mean_of_items(scores: np.ndarray) -> Fraction:
    return Fraction(int(scores.sum()), 100 * len(scores))


def unit_values(experiment: Experiment, run: Run) -> list[Fraction]:
    """What a run says: its score where seeds are the units, else the mean of each cluster."""
    scores = [Fraction(int(score), 100) for score in experiment.scores[run]]
    if experiment.scope == "method":
        return [sum(scores) / len(scores)]
    clusters = defaultdict(list)
    for cluster, score in zip(experiment.clusters, scores, strict=True):
        clusters[cluster].append(score)
    return [sum(clusters[name]) / len(clusters[name]) for name in sorted(clusters)]


def arm_values(experiment: Experiment, arm: str) -> list[Fraction]:
    return [value for seed in experiment.seeds for value in unit_values(experiment, (arm, seed))]


def differences(experiment: Experiment) -> list[Fraction]:
    sign = 1 if experiment.direction == "higher" else -1
    baseline, treatment = (arm_values(experiment, arm) for arm in ARMS)
    return [sign * (t - b) for b, t in zip(baseline, treatment, strict=True)]


def mean(values: Sequence[Fraction]) -> Fraction:
    return sum(values, Fraction()) / len(values)


def t_inside(t: float, freedom: int) -> float:
    """P(|T| ≤ t) of Student's t: the finite sums of Abramowitz and Stegun 26.7.3 and 26.7.4."""
    angle = math.atan(t / math.sqrt(freedom))
    odd = freedom % 2
    term = math.cos(angle) if odd else 1.0
    total = 0.0 if freedom == 1 else term
    for k in range(3 if odd else 2, freedom - 1, 2):
        term *= (k - 1) / k * math.cos(angle) ** 2
        total += term
    inside = math.sin(angle) * total
    return 2 / math.pi * (angle + inside) if odd else inside


def t_quantile(level: float, freedom: int) -> float:
    """The t within which ±t holds `level` of the distribution, by bisection."""
    low, high = 0.0, 1e6
    while (middle := (low + high) / 2) not in (low, high):
        low, high = (middle, high) if t_inside(middle, freedom) < level else (low, middle)
    return high


def standard_error(values: Sequence[Fraction]) -> float:
    return float(np.std(np.array(values, dtype=float), ddof=1)) / math.sqrt(len(values))


def t_interval(values: Sequence[Fraction], level: float) -> list[float] | list[Fraction]:
    if len(set(values)) == 1:
        return [mean(values)] * 2
    center = float(mean(values))
    half = t_quantile(level, len(values) - 1) * standard_error(values)
    return [center - half, center + half]


def tost(values: Sequence[Fraction], margin: Fraction, alpha: Fraction) -> bool:
    """Whether both one-sided t-tests, against −margin and against margin, reject at alpha."""
    distance = float(margin - abs(mean(values)))  # of the harder test
    if len(set(values)) == 1:
        return distance > 0
    t = distance / standard_error(values)
    return t > 0 and (1 - t_inside(t, len(values) - 1)) / 2 < alpha


def sign_flip_p(values: Sequence[Fraction]) -> float:
    """The share of all sign patterns with as large a sum, exact: by the distribution of the sum over whole
    numbers, whatever the number of units."""
    scale = math.lcm(*(value.denominator for value in values))
    whole = [int(value * scale) for value in values]
    reach = sum(map(abs, whole))
    share = np.zeros(2 * reach + 1)
    share[reach] = 1.0
    for number in whole:
        share = (np.roll(share, number) + np.roll(share, -number)) / 2
    sums = np.abs(np.arange(-reach, reach + 1))
    return float(share[sums >= abs(sum(whole))].sum())


def mcnemar_p(baseline: Sequence[Fraction], treatment: Sequence[Fraction]) -> float:
    """Two-sided binomial p of the pairs that disagree."""
    gained = sum(t > b for b, t in zip(baseline, treatment, strict=True))
    lost = sum(t < b for b, t in zip(baseline, treatment, strict=True))
    both = gained + lost
    tail = sum(math.comb(both, k) for k in range(min(gained, lost) + 1))
    return float(min(Fraction(1), Fraction(2 * tail, 2**both)))


def holm(p: float, others: Sequence[float | None]) -> float:
    """Step down through the family: the smallest p times all, the next times one fewer, never falling."""
    family = sorted([(p, True), *((1.0 if other is None else other, False) for other in others)])
    highest = 0.0
    for rank, (value, own) in enumerate(family):
        highest = max(highest, min(1.0, value * (len(family) - rank)))
        if own:
            return highest
    raise AssertionError


def single_hits(experiment: Experiment) -> bool:
    scores = np.concatenate([experiment.scores[arm, 0] for arm in ARMS])
    alone = len(set(experiment.clusters)) == len(experiment.clusters)
    return experiment.scope == "checkpoints" and alone and set(scores.tolist()) <= {0, 100}


def seeds_change_nothing(experiment: Experiment) -> bool:
    return experiment.scope == "method" and all(
        np.array_equal(experiment.scores[arm, seed], experiment.scores[arm, 0])
        for arm in ARMS
        for seed in experiment.seeds
    )


def control_excess(experiment: Experiment, name: str) -> list[Fraction]:
    chance = [Fraction(experiment.chance[name, seed], 100) for seed in experiment.seeds]
    return [
        value - level
        for seed, level in zip(experiment.seeds, chance, strict=True)
        for value in unit_values(experiment, (name, seed))
    ]


def outcome(experiment: Experiment, p_adjusted: float) -> str:
    """The rules of the house, read from its table."""
    margin, alpha = experiment.margin, experiment.alpha
    found = differences(experiment)
    if experiment.deviates:
        return "deviated"
    leaks = (not tost(control_excess(experiment, name), margin, alpha) for name in experiment.controls)
    if any(leaks) or seeds_change_nothing(experiment):
        return "inadmissible"
    low, high = t_interval(found, 1 - float(alpha))
    same = tost(found, margin, alpha)
    if experiment.kind == "superiority":
        if p_adjusted <= alpha and mean(found) >= margin:
            return "supported"
        return "refuted" if high < margin else "equivalent" if same else "inconclusive"
    if experiment.kind == "non-inferiority":
        return "supported" if low > -margin else "refuted" if high < -margin else "inconclusive"
    if same:
        return "supported"
    return "refuted" if low > margin or high < -margin else "inconclusive"


# the two agree


@pytest.fixture(autouse=True)
def little_garbage() -> Iterator[None]:
    """statsmodels collects garbage at every correction for a family, 45 ms where all modules are looked
    through; frozen, they are not."""
    gc.freeze()
    yield
    gc.unfreeze()


def is_p_of_random_flips(p: float, exact: float) -> bool:
    """Whether p is the share of 9,999 random flips, the observed pattern counted in, that `exact` allows: off
    by five standard errors, and five flips where it is small."""
    count = p * 10_000 - 1
    assert count == pytest.approx(round(count), abs=1e-6)
    return abs(count - 9_999 * exact) <= 5 * math.sqrt(9_999 * exact * (1 - exact)) + 5


def close(value: float | Fraction | Sequence[float | Fraction]) -> Any:
    plain = [float(v) for v in value] if isinstance(value, Sequence) else float(value)
    return pytest.approx(plain, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("number", range(EXPERIMENTS))
def test_both_computations_give_the_same_verdict(by_seed: Build, number: int) -> None:
    experiment = an_experiment(number)
    verdict = judged(experiment, by_seed)
    found = differences(experiment)
    alpha = float(experiment.alpha)
    others = {name: p for name, p in experiment.family.items() if name != NAME}
    assert verdict.p is not None
    assert verdict.p_adjusted is not None

    assert verdict.units == len(found)
    assert verdict.effect == close(mean(found))
    assert verdict.interval == close(t_interval(found, 1 - alpha))
    agree_in_p(experiment, found, verdict.p)
    assert verdict.smallest_p == smallest_p(experiment, len(found))
    assert verdict.p_adjusted == close(holm(verdict.p, list(others.values())))
    assert verdict.family == {**others, NAME: verdict.p}
    assert verdict.equivalent == tost(found, experiment.margin, experiment.alpha)
    assert verdict.outcome == outcome(experiment, verdict.p_adjusted)

    for arm in (*ARMS, *experiment.controls):
        assert verdict.means[arm] == close(mean(arm_values(experiment, arm)))
    agree_in_pairs(experiment, verdict)
    agree_in_controls(experiment, verdict)
    spreads = [
        abs(mean_of_items(experiment.scores[run]) - mean_of_items(scores))
        for run, scores in experiment.again.items()
    ]
    assert verdict.replication == (close(max(spreads)) if spreads else None)


def agree_in_p(experiment: Experiment, found: Sequence[Fraction], p: float) -> None:
    if single_hits(experiment):
        baseline, treatment = (arm_values(experiment, arm) for arm in ARMS)
        assert p == close(mcnemar_p(baseline, treatment))
    elif len(found) <= 16:
        assert p == close(sign_flip_p(found))
    else:
        assert is_p_of_random_flips(p, sign_flip_p(found))


def smallest_p(experiment: Experiment, units: int) -> float:
    return 2.0 ** (1 - units) if units <= 16 or single_hits(experiment) else 1 / 10_000


def agree_in_pairs(experiment: Experiment, verdict: Verdict) -> None:
    sign = 1 if experiment.direction == "higher" else -1
    assert [pair.seed for pair in verdict.pairs] == experiment.seeds
    for pair in verdict.pairs:
        baseline, treatment = (mean_of_items(experiment.scores[arm, pair.seed]) for arm in ARMS)
        assert [pair.baseline, pair.treatment] == close([baseline, treatment])
        assert pair.difference == close(sign * (treatment - baseline))


def agree_in_controls(experiment: Experiment, verdict: Verdict) -> None:
    assert [control.name for control in verdict.controls] == experiment.controls
    for control in verdict.controls:
        excess = control_excess(experiment, control.name)
        chance = [Fraction(experiment.chance[control.name, seed], 100) for seed in experiment.seeds]
        assert control.interval == close(t_interval(excess, 1 - 2 * float(experiment.alpha)))
        assert control.passed == tost(excess, experiment.margin, experiment.alpha)
        assert control.mean == close(mean(arm_values(experiment, control.name)))
        assert control.chance == close(mean(chance))


def test_the_random_experiments_reach_every_rule() -> None:
    """What the three hundred would not show if they were all alike, counted without the judge."""
    seen: Counter[Any] = Counter()
    for number in range(EXPERIMENTS):
        experiment = an_experiment(number)
        found = differences(experiment)
        hits = single_hits(experiment)
        p = mcnemar_p(*(arm_values(experiment, arm) for arm in ARMS)) if hits else None
        p = sign_flip_p(found) if p is None else p
        others = [p for name, p in experiment.family.items() if name != NAME]
        seen[experiment.kind, outcome(experiment, holm(p, others))] += 1
        seen["single hits"] += hits
        seen["random flips"] += not hits and len(found) > 16
        seen["exact flips, by cluster"] += not hits and experiment.scope == "checkpoints" and len(found) <= 16
        seen["seeds change nothing"] += seeds_change_nothing(experiment)
        seen["one difference, repeated"] += len(set(found)) == 1
        seen["a family that matters"] += (p <= experiment.alpha) and holm(p, others) > experiment.alpha
    kinds = {
        "superiority": ["supported", "refuted", "equivalent", "inconclusive", "inadmissible", "deviated"],
        "non-inferiority": ["supported", "refuted", "inconclusive", "inadmissible", "deviated"],
        "equivalence": ["supported", "refuted", "inconclusive", "inadmissible", "deviated"],
    }
    rules = [(kind, name) for kind, names in kinds.items() for name in names]
    assert {*rules, *(key for key in seen if isinstance(key, str))} == {key for key in seen if seen[key] > 0}


# the second computation itself, against published tables


@pytest.mark.parametrize(
    ("freedom", "quantile"), [(1, 12.706), (2, 4.303), (5, 2.571), (10, 2.228), (29, 2.045), (100, 1.984)]
)
def test_the_quantiles_here_are_those_of_the_printed_t_table(freedom: int, quantile: float) -> None:
    assert t_quantile(0.95, freedom) == pytest.approx(quantile, abs=5e-4)


def test_the_sign_flip_p_here_is_that_of_fishers_worked_example() -> None:
    """Darwin's fifteen pairs of Zea mays in eighths of an inch, whose 1,726 of 32,768 sums Fisher counted
    (The Design of Experiments, 1935, section 21): as large a total in either direction."""
    darwin = [49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48]
    assert sign_flip_p([Fraction(inches, 8) for inches in darwin]) == 1_726 / 32_768


def test_holm_by_hand() -> None:
    # Holm 1979: .01 × 4, then .02 × 3 = .06, .03 × 2 raised to .06, .9
    assert [holm(p, others) for p, others in [(0.01, [0.03, 0.02, 0.9]), (0.03, [0.01, 0.9, 0.02])]] == (
        pytest.approx([0.04, 0.06])
    )
