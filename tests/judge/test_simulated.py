"""What a verdict is worth: two thousand experiments each in worlds whose truth is known, judged one by one.

`pytest -m slow -s tests/judge/test_simulated.py` prints every rate, in six minutes of processor time. A rate
that theory bounds fails its test when chance alone would exceed the bound so far in fewer than one of a
thousand repetitions.
"""

from __future__ import annotations

import gc
import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from scipy.stats import binomtest, ttest_1samp

from claimbook.errors import JudgeError
from claimbook.judge import assess_design
from claimbook.records import Verdict

pytestmark = pytest.mark.slow

Build = Callable[..., Any]
World = np.random.Generator
EXPERIMENTS = 2_000
ALPHA = 0.05
SPREAD = 0.01
"""Standard deviation of one seed's difference between the arms, where the noise is normal."""
TINY = 1e-6
"""A margin that takes no part: what is significant and favourable is supported."""

NOISES: dict[str, Callable[[World, tuple[int, ...]], np.ndarray]] = {
    "normal": lambda world, size: world.normal(0, SPREAD, size),
    "heavy-tailed": lambda world, size: SPREAD * world.standard_t(2, size),
    "skewed": lambda world, size: world.exponential(SPREAD, size),
}
"""What a seed does to the score of an arm."""


def simulate(experiment: Callable[[World], Any]) -> list[Any]:
    """What `experiment` returns in each of the worlds, computed by two processes."""
    experiment(np.random.default_rng(0))  # loads what judging imports, before the fork
    forked = multiprocessing.get_context("fork")  # a fixture's closures go along without being pickled
    with ProcessPoolExecutor(2, forked, initializer=_adopt, initargs=(experiment,)) as pool:
        return list(pool.map(_in_world, range(EXPERIMENTS), chunksize=25))


_adopted: list[Callable[[World], Any]] = []


def _adopt(experiment: Callable[[World], Any]) -> None:
    _adopted.append(experiment)
    gc.freeze()  # multipletests collects garbage at every call: 60 ms where all modules are looked through


def _in_world(number: int) -> Any:
    return _adopted[-1](np.random.default_rng(number))


def rate(events: Sequence[bool], what: str) -> str:
    told = f"{what}: {sum(events)} of {len(events)}, {np.mean(events):.2%}"
    print(f"\n  {told}", end="")
    return told


def at_most(bound: float, events: Sequence[bool], what: str) -> None:
    told = rate(events, what)
    assert binomtest(sum(events), len(events), bound, "greater").pvalue > 0.001, f"{told}, above {bound:.2%}"


def more_than(bound: float, events: Sequence[bool], what: str) -> None:
    told = rate(events, what)
    assert binomtest(sum(events), len(events), bound, "greater").pvalue < 0.001, (
        f"{told}, not above {bound:.2%}"
    )


def exactly(share: Fraction, events: Sequence[bool], what: str) -> None:
    told = rate(events, what)
    assert binomtest(sum(events), len(events), float(share)).pvalue > 0.001, f"{told}, not {float(share):.2%}"


def near(predicted: float, events: Sequence[bool], what: str) -> None:
    told = rate(events, what)
    assert np.mean(events) == pytest.approx(predicted, abs=0.05), f"{told}, predicted {predicted:.0%}"


def significant(verdict: Verdict) -> bool:
    assert verdict.p_adjusted is not None
    return verdict.p_adjusted <= ALPHA


def supported(verdict: Verdict) -> bool:
    return verdict.outcome == "supported"


def differences(world: World, noise: str, seeds: int) -> list[float]:
    """Of two arms that do the same: the noise is drawn from one distribution for both."""
    treatment, baseline = NOISES[noise](world, (2, seeds))
    return list((treatment - baseline).tolist())


def sign_flip_level(seeds: int) -> Fraction:
    """How often the sign-flip test errs where nothing is: the multiple of its smallest p just below alpha."""
    smallest = Fraction(2, 2**seeds)
    return int(Fraction(str(ALPHA)) / smallest) * smallest


# no effect: false positives


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("seeds", [6, 8, 10])
def test_a_method_that_does_the_same_is_significant_as_often_as_the_test_says(
    by_seed: Build, noise: str, seeds: int
) -> None:
    def experiment(world: World) -> tuple[bool, bool]:
        verdict = by_seed(differences(world, noise, seeds), margin=TINY).judge()
        return significant(verdict), supported(verdict)

    found, claimed = zip(*simulate(experiment), strict=True)
    exactly(sign_flip_level(seeds), found, f"significant by {noise} noise, {seeds} seeds")
    at_most(ALPHA / 2, claimed, f"supported by {noise} noise, {seeds} seeds")


def products(world: World, effect: float = 0.0) -> tuple[list[float], list[float], list[str]]:
    """Baseline, treatment and product of 40 × 5 pictures; of a picture's difference, 30 % of the variance is
    its product's."""
    baseline = world.uniform(0.2, 0.8, 200)
    own = world.normal(0, np.sqrt(0.7), 200)
    shared = np.repeat(world.normal(0, np.sqrt(0.3), 40), 5)
    treatment = baseline + effect + SPREAD * (own + shared)
    return baseline.tolist(), treatment.tolist(), [f"p{number // 5:02d}" for number in range(200)]


def test_pictures_that_share_a_product_give_no_false_support(by_item: Build) -> None:
    def experiment(world: World) -> tuple[bool, bool, bool]:
        baseline, treatment, clusters = products(world)
        verdict = by_item(baseline, treatment, clusters, margin=TINY).judge()
        naive = ttest_1samp(np.subtract(treatment, baseline), 0).pvalue <= ALPHA
        return significant(verdict), supported(verdict), bool(naive)

    found, claimed, naive = zip(*simulate(experiment), strict=True)
    at_most(ALPHA, found, "significant, 40 products × 5 pictures")
    at_most(ALPHA / 2, claimed, "supported, 40 products × 5 pictures")
    more_than(2 * ALPHA, naive, "significant, had the 200 pictures been taken as independent")


def hits(world: World, gained: float, lost: float) -> tuple[list[float], list[float]]:
    """Whether 500 queries hit in baseline and treatment; the treatment gains and loses these shares."""
    draw = world.uniform(0, 1, 500)
    neither_nor = world.integers(0, 2, 500)
    baseline = np.where(draw < gained, 0, np.where(draw < gained + lost, 1, neither_nor))
    treatment = np.where(draw < gained, 1, np.where(draw < gained + lost, 0, neither_nor))
    return baseline.astype(float).tolist(), treatment.astype(float).tolist()


def test_queries_that_hit_or_miss_give_no_false_support(by_item: Build) -> None:
    def experiment(world: World) -> tuple[bool, bool]:
        verdict = by_item(*hits(world, 0.05, 0.05), margin=TINY).judge()
        return significant(verdict), supported(verdict)

    found, claimed = zip(*simulate(experiment), strict=True)
    at_most(ALPHA, found, "significant, 500 queries")
    at_most(ALPHA / 2, claimed, "supported, 500 queries")


# ways to find what is not there


def test_peeking_after_every_seed_is_refused_so_it_finds_nothing_more(by_seed: Build) -> None:
    def experiment(world: World) -> tuple[int, bool, bool]:
        seeds = differences(world, "normal", 10)
        study = by_seed(seeds, margin=TINY)
        made, early = study.runs, 0
        for count in range(3, 10):
            study.runs = made[: 2 * count]
            try:
                study.judge()
            except JudgeError:
                continue
            early += 1
        study.runs = made
        peeked = any(ttest_1samp(seeds[:count], 0).pvalue <= ALPHA for count in range(3, 11))
        return early, significant(study.judge()), peeked

    early, found, peeked = zip(*simulate(experiment), strict=True)
    assert sum(early) == 0
    at_most(ALPHA, found, "significant at the tenth seed, all earlier looks refused")
    more_than(2 * ALPHA, peeked, "significant at some look, had each been allowed")


def test_the_best_of_five_reruns_never_counts(by_seed: Build, four_items: Build) -> None:
    def experiment(world: World) -> tuple[bool, bool, bool]:
        reruns = [differences(world, "normal", 6) for _ in range(5)]
        study = by_seed(reruns[0], margin=TINY)
        treatment = [run.metrics["recall@1"] for run in study.runs if run.arm == "treatment"]
        baseline = [score - gain for score, gain in zip(treatment, reruns[0], strict=True)]
        for again in reruns[1:]:
            for seed, gain in enumerate(again):
                study.add("treatment", seed, four_items(baseline[seed] + gain))
        verdict = study.judge()
        assert verdict.replication == pytest.approx(np.ptp(reruns, axis=0).max())
        assert (verdict.units, verdict.effect) == (6, pytest.approx(np.mean(reruns[0])))
        best = by_seed(np.max(reruns, axis=0).tolist(), margin=TINY).judge()
        return significant(verdict), supported(verdict), supported(best)

    found, claimed, best = zip(*simulate(experiment), strict=True)
    exactly(sign_flip_level(6), found, "significant, each seed run five times")
    at_most(ALPHA / 2, claimed, "supported, each seed run five times")
    more_than(2 * ALPHA, best, "supported, had the best run of each seed counted")


def test_ten_hypotheses_on_one_set_are_together_in_error_as_often_as_one_may_be(by_seed: Build) -> None:
    """Nine seeds, the fewest with which ten can be sealed. Sealed together and judged in turn, or judged
    again when all are known: at most alpha. Sealed one after the other, each verdict left as it was: the
    k-th is tested at alpha / k, so the bound is the sum of these, 2.9 alpha; half of each is favourable."""

    def experiment(world: World) -> dict[str, tuple[bool, bool]]:
        names = [f"h{number}" for number in range(10)]
        studies = {name: by_seed(differences(world, "normal", 9), margin=TINY) for name in names}
        known: dict[str, float] = {}
        in_turn: list[Verdict] = []
        for name in names:
            in_turn.append(studies[name].judge(family=dict(known)))
            assert in_turn[-1].p is not None
            known[name] = in_turn[-1].p

        def judged(name: str, family: dict[str, float | None]) -> Verdict:
            others = {slug: p for slug, p in family.items() if slug != name}
            return studies[name].judge(family=others)

        # adjusting never lowers p, so only these can become significant
        low = [name for name in names if known[name] <= ALPHA]
        sealed_first = [
            judged(name, {**dict.fromkeys(names), **{n: known[n] for n in names[: names.index(name)]}})
            for name in low
        ]
        in_the_end = [judged(name, dict(known)) for name in low]
        return {
            way: (any(map(significant, verdicts)), any(map(supported, verdicts)))
            for way, verdicts in (
                ("one after the other", in_turn),
                ("sealed together", sealed_first),
                ("judged again in the end", in_the_end),
            )
        }

    worlds = simulate(experiment)
    bounds = {
        "sealed together": ALPHA,
        "judged again in the end": ALPHA,
        "one after the other": sum(ALPHA / k for k in range(1, 11)),
    }
    for way, bound in bounds.items():
        found, claimed = zip(*(world[way] for world in worlds), strict=True)
        at_most(bound, found, f"at least one of ten significant, {way}")
        at_most(bound / 2, claimed, f"at least one of ten supported, {way}")


# an effect: found as often as predicted before the seal


def given_spread(units: int = 3) -> list[float]:
    """A pilot whose standard deviation is SPREAD: what a design says when it knows the truth."""
    values = np.arange(units) - (units - 1) / 2
    return list((SPREAD * values / values.std(ddof=1)).tolist())


@pytest.mark.parametrize(("seeds", "family"), [(6, 1), (8, 1), (10, 1), (12, 1), (7, 3)])
def test_the_smallest_detectable_effect_of_a_method_is_found_in_four_of_five(
    hypothesis: Build, by_seed: Build, seeds: int, family: int
) -> None:
    design = assess_design(hypothesis(seeds=list(range(seeds))), given_spread(), family)
    others = {f"other-{number}": None for number in range(1, family)}

    def experiment(world: World) -> tuple[bool, bool]:
        gains = world.normal(design.detectable, SPREAD, seeds).tolist()
        verdict = by_seed(gains, margin=SPREAD / 20).judge(family=others)
        return significant(verdict), supported(verdict)

    found, claimed = zip(*simulate(experiment), strict=True)
    truth = f"true effect {design.detectable / SPREAD:.2f} spreads, {seeds} seeds, family of {family}"
    near(0.8, found, f"significant, {truth}")
    near(0.8, claimed, f"supported, {truth}, a margin far below it")


def test_an_effect_as_large_as_the_margin_is_supported_in_no_more_than_half(by_seed: Build) -> None:
    def experiment(world: World) -> bool:
        return supported(by_seed(world.normal(3 * SPREAD, SPREAD, 6).tolist(), margin=3 * SPREAD).judge())

    exactly(Fraction(1, 2), simulate(experiment), "supported, true effect of three spreads, as the margin")


def test_the_smallest_detectable_effect_on_products_is_found_in_four_of_five(
    hypothesis: Build, by_item: Build
) -> None:
    per_product = np.sqrt(0.3 + 0.7 / 5)  # spread of a product's mean difference, in SPREAD
    pilot = [per_product * value for value in given_spread(40)]
    design = assess_design(hypothesis(scope="checkpoints", seeds=[0]), pilot)

    def experiment(world: World) -> bool:
        return supported(by_item(*products(world, design.detectable), margin=TINY).judge())

    near(0.8, simulate(experiment), f"supported, true effect {design.detectable:.4f}, 40 products")


def test_the_smallest_detectable_effect_on_queries_is_found_in_four_of_five(
    hypothesis: Build, by_item: Build
) -> None:
    gained, lost = 75, 55  # as many of 500 disagree in the pilot as in truth
    pilot = [1.0] * gained + [-1.0] * lost + [0.0] * (500 - gained - lost)
    design = assess_design(hypothesis(scope="checkpoints", seeds=[0]), pilot)
    disagreeing = (gained + lost) / 500

    def experiment(world: World) -> bool:
        shares = (disagreeing + design.detectable) / 2, (disagreeing - design.detectable) / 2
        return supported(by_item(*hits(world, *shares), margin=TINY).judge())

    near(0.8, simulate(experiment), f"supported, true effect {design.detectable:.4f}, 500 queries")


@pytest.mark.parametrize("seeds", [6, 9])
@pytest.mark.parametrize(("kind", "error"), [("equivalence", ALPHA), ("non-inferiority", ALPHA / 2)])
def test_sameness_is_found_where_it_is_as_predicted_and_seldom_where_it_is_not(
    hypothesis: Build, by_seed: Build, kind: str, error: float, seeds: int
) -> None:
    margin = assess_design(hypothesis(kind=kind, seeds=list(range(seeds))), given_spread()).detectable
    assert margin is not None

    def experiment(world: World) -> tuple[bool, bool]:
        noise = world.normal(0, SPREAD, seeds)
        same, worse = (
            by_seed((noise + gain).tolist(), margin=margin, kind=kind).judge() for gain in (0.0, -margin)
        )
        return supported(same), supported(worse)

    same, worse = zip(*simulate(experiment), strict=True)
    near(0.8, same, f"{kind} supported, the arms do the same, {seeds} seeds")
    at_most(error, worse, f"{kind} supported, the treatment is worse by the margin, {seeds} seeds")


# controls


def test_a_control_at_chance_passes_as_predicted_and_one_that_leaks_is_found(
    hypothesis: Build, by_seed: Build
) -> None:
    # a control is an equivalence test against chance, so the design of one says how often it passes
    margin = assess_design(hypothesis(kind="equivalence"), given_spread()).detectable
    assert margin is not None

    def experiment(world: World) -> tuple[bool, bool]:
        clean = world.normal(0, SPREAD, 6)
        gains = world.normal(3 * margin, SPREAD, 6).tolist()
        passed, leaked = (
            by_seed(gains, controls={"shuffled": (clean + leak).tolist()}, margin=margin).judge()
            for leak in (0.0, 2 * margin)
        )
        return passed.outcome != "inadmissible", leaked.outcome == "inadmissible"

    passed, leaked = zip(*simulate(experiment), strict=True)
    near(0.8, passed, "a control at chance passes")
    rate(leaked, "a control that scores two margins above chance is found")
    assert np.mean(leaked) >= 0.95
