"""Before the seal: can this design reach a verdict, and which effect can it see?

Knows a hypothesis, the family that it joins and the differences of a pilot; knows nothing of runs or files.
A design that cannot succeed costs the same GPU hours as one that can, so it is refused here, not after.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from claimbook.errors import SealError
from claimbook.judge.statistics import ENUMERATED_UNITS, RESAMPLES, smallest_sign_flip_p
from claimbook.records import Hypothesis

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

POWER = 0.8
"""How often the smallest detectable effect is found when it is there."""
_NOISES = 2_000
"""Simulated experiments behind a superiority design's power: its standard error is .9 points."""


@dataclass(frozen=True)
class Finding:
    """Something about a design that should be changed."""

    problem: str
    fix: str


@dataclass(frozen=True)
class Design:
    """What a hypothesis can and cannot decide."""

    smallest_p: float
    """The smallest two-sided p that these seeds can reach; in scope checkpoints the pilot's clusters, or,
    where there is no pilot, random flips."""
    smallest_p_adjusted: float
    """The same after Holm's correction, when it is the smallest of the family."""
    family_size: int
    """Hypotheses sealed on the same product set and metric, this one included."""
    pilot_sd: float | None
    """Standard deviation of the pilot's differences; None without a pilot of two differences."""
    detectable: float | None
    """With 80 % power, by the pilot's spread: the smallest true difference that is significant (superiority),
    or the smallest margin that non-inferiority or equivalence shows when the arms do the same."""
    supportable: float | None
    """The smallest true difference that superiority supports with 80 % power: it must be significant and be
    measured at no less than the margin, so it always lies above the margin. None for the other kinds."""
    problems: tuple[Finding, ...]
    """Each makes sealing refuse."""
    warnings: tuple[Finding, ...]
    """Each is worth a second thought."""

    def refuse(self) -> None:
        """Raise SealError that lists all problems; do nothing when there are none."""
        if self.problems:
            raise SealError(
                "this design cannot be decided: " + "; ".join(found.problem for found in self.problems),
                fix="; ".join(dict.fromkeys(found.fix for found in self.problems)),
                where="hypothesis.toml",
            )


def assess_design(
    hypothesis: Hypothesis, pilot: Sequence[float] | None = None, family_size: int = 1
) -> Design:
    """What `hypothesis` can decide in a family of `family_size`, itself included.

    pilot: treatment − baseline of earlier runs in the metric's unit, one per seed, or one per cluster where
    the scope is checkpoints. Assessing never fails; `Design.refuse` does.
    """
    by_seed = hypothesis.scope == "method"
    units = len(hypothesis.seeds) if by_seed else len(pilot or ())
    smallest = smallest_sign_flip_p(units) if by_seed or units else 1 / (RESAMPLES + 1)
    adjusted = min(1.0, smallest * family_size)
    spread = _spread(pilot)
    detectable, supportable = _reach(hypothesis, spread, units, family_size)
    return Design(
        smallest_p=smallest,
        smallest_p_adjusted=adjusted,
        family_size=family_size,
        pilot_sd=spread,
        detectable=detectable,
        supportable=supportable,
        problems=(
            *_seed_problems(hypothesis, adjusted, family_size, units),
            *_arm_problems(hypothesis),
            *_question_problems(hypothesis),
        ),
        warnings=(*_control_warnings(hypothesis), *_power_warnings(hypothesis, pilot, spread, detectable)),
    )


def seeds_needed(alpha: float, family_size: int) -> int:
    """The fewest seeds whose smallest sign-flip p, after Holm in such a family, is at most `alpha`."""
    # at 1,000 members and alpha .001 it is 21: the loop is short
    return next(n for n in range(2, 1000) if math.ldexp(2.0, -n) * family_size <= alpha)


def _seed_problems(hypothesis: Hypothesis, smallest: float, family_size: int, units: int) -> list[Finding]:
    count = len(hypothesis.seeds)
    if hypothesis.scope == "checkpoints":
        if count > 1:
            return [
                Finding(
                    f'scope "checkpoints" compares one training each, and {count} seeds are listed',
                    'keep one seed, or take scope = "method"',
                )
            ]
        if hypothesis.kind == "superiority" and smallest > hypothesis.alpha:
            flips = f"the {units} clusters of the pilot" if units else f"{RESAMPLES:,} random sign flips"
            return [
                Finding(
                    f"{flips} in a family of {family_size} cannot get below p = {smallest:.2g}, "
                    f"and alpha is {hypothesis.alpha:g}",
                    f"take a larger test set, or raise alpha to {smallest:.2g} or more",
                )
            ]
        return []
    if hypothesis.kind == "superiority" and smallest > hypothesis.alpha:
        family = f" in a family of {family_size}" if family_size > 1 else ""
        seeds = f"{count} seed{'s' if count > 1 else ''}"
        return [
            Finding(
                f"with {seeds} a two-sided sign-flip test cannot get below p = {smallest:.3g}{family}, "
                f"and alpha is {hypothesis.alpha:g}",
                f"take at least {seeds_needed(hypothesis.alpha, family_size)} seeds",
            )
        ]
    if count < 2:
        return [
            Finding(
                "one seed has no interval: how much a method varies over seeds stays unknown",
                'take at least 2 seeds, better 6, or scope = "checkpoints"',
            )
        ]
    return []


def _arm_problems(hypothesis: Hypothesis) -> list[Finding]:
    """Arms that differ on paper only: `parameters` may set what one of them repeats."""
    seed = hypothesis.seeds[0]
    treatment = hypothesis.parameters_of("treatment", seed)
    found = []
    if hypothesis.parameters_of("baseline", seed) == treatment:
        found.append(
            Finding(
                "baseline and treatment run with the same parameters",
                "let the arms differ in a parameter that [parameters] does not already set so",
            )
        )
    for name in hypothesis.controls:
        if hypothesis.parameters_of(name, seed) == treatment:
            found.append(
                Finding(
                    f"controls.{name} runs with the treatment's parameters, so it cannot score chance",
                    f"set in controls.{name} the parameter that takes the signal away",
                )
            )
    return found


def _question_problems(hypothesis: Hypothesis) -> list[Finding]:
    empty = hypothesis.questions.empty()
    if not empty:
        return []
    return [
        Finding(
            f"questions without an answer: {', '.join(empty)}",
            "answer each under [questions] in a sentence",
        )
    ]


def _control_warnings(hypothesis: Hypothesis) -> list[Finding]:
    if hypothesis.controls:
        return []
    return [
        Finding(
            "there is no control, so nothing shows that the metric falls to chance without the signal",
            "add one, such as [controls.shuffled] with shuffle_pairs = true",
        )
    ]


def _power_warnings(
    hypothesis: Hypothesis, pilot: Sequence[float] | None, spread: float | None, detectable: float | None
) -> list[Finding]:
    if pilot is None:
        return []
    if spread is None:
        return [
            Finding(
                f"the pilot has {len(pilot)} of the 2 differences that a spread takes",
                "run a pilot of at least 2 seeds, better 3, in both arms",
            )
        ]
    if detectable is None:
        reason = (
            "all its differences are equal" if spread == 0 else "so few units have no power at this alpha"
        )
        return [
            Finding(
                f"the pilot says nothing about power: {reason}",
                "check that the seed changes the training, or take more seeds",
            )
        ]
    if detectable > hypothesis.margin:
        seen = "difference that is found" if hypothesis.kind == "superiority" else "margin that can be shown"
        return [
            Finding(
                f"by the pilot's spread the smallest {seen} in 80 % of such experiments is {detectable:.2g}, "
                f"and the margin is {hypothesis.margin:g}",
                "take more seeds, or a larger test set, or a margin that this design can see",
            )
        ]
    return []


def _spread(pilot: Sequence[float] | None) -> float | None:
    """Standard deviation of the pilot's differences."""
    import numpy as np

    if pilot is None or len(pilot) < 2:
        return None
    if max(pilot) == min(pilot):
        return 0.0
    return float(np.std(pilot, ddof=1))


def _reach(
    hypothesis: Hypothesis, spread: float | None, units: int, family_size: int
) -> tuple[float | None, float | None]:
    """`Design.detectable` and `Design.supportable`: superiority by simulating its test; the other kinds,
    which t-intervals decide, from statsmodels.stats.power.TTestPower.

    Superiority is tested at alpha / family_size, Holm's hardest step. Non-inferiority asks one bound of the
    (1 − alpha) interval, a one-sided test at alpha / 2. Equivalence asks two one-sided tests at alpha; both
    succeed in 80 % when each does in 90 %.
    """
    if not spread or units < 2:
        return None, None
    if hypothesis.kind == "superiority":
        found = _superiority_sizes(units, hypothesis.alpha / family_size, hypothesis.margin / spread)
        return (found[0] * spread, found[1] * spread) if found else (None, None)
    if hypothesis.kind == "non-inferiority":
        size = _t_test_size(units, hypothesis.alpha / 2, POWER)
    else:
        size = _t_test_size(units, hypothesis.alpha, (1 + POWER) / 2)
    return (None if size is None else size * spread), None


def _superiority_sizes(units: int, alpha: float, margin: float) -> tuple[float, float] | None:
    """The true differences that are significant, and that are significant and measured at `margin` or above,
    in 80 % of simulated experiments; None where `alpha` is out of reach. All in standard deviations.

    Each simulated noise has a smallest true difference that is found in it; the answer is their 80 %
    quantile. A t-test's power will not do for a sign-flip test of few units: six reach .05 only with all
    differences of one sign, and what a t-test finds in 80 % they find in 64 %.
    """
    import numpy as np
    from scipy.stats import t

    if smallest_sign_flip_p(units) > alpha * (1 + 1e-9):
        return None
    random = np.random.default_rng(0)
    if units <= ENUMERATED_UNITS:
        noises = random.standard_normal((_NOISES, units))
        means = noises.mean(axis=1)
        significant = _smallest_significant(noises, alpha)
    else:  # the sign-flip test of so many has the power of a t-test
        means = random.standard_normal(_NOISES) / math.sqrt(units)
        errors = np.sqrt(random.chisquare(units - 1, _NOISES) / (units - 1) / units)
        significant = t.ppf(1 - alpha / 2, units - 1) * errors - means
    supported = np.maximum(significant, margin - means)
    return float(np.quantile(significant, POWER)), float(np.quantile(supported, POWER))


def _smallest_significant(noises: NDArray[np.float64], alpha: float) -> NDArray[np.float64]:
    """The smallest true difference that an exact sign-flip test finds at `alpha` in each row of noise.

    A pattern and its opposite give sums of one size, so it is found when at most alpha · 2ⁿ / 2 patterns, the
    observed one among them, give as large a sum. Flipping a set of units does when the mean of their
    differences is at most 0: when the true difference is at most minus the mean of their noise.
    """
    import numpy as np

    units = noises.shape[1]
    patterns = math.floor(math.ldexp(alpha, units - 1) * (1 + 1e-9))

    def subset_sums(values: NDArray[np.float64]) -> NDArray[np.float64]:
        sums = np.zeros(1)
        for value in values:
            sums = np.concatenate([sums, sums + value])
        return sums[1:]

    sizes = subset_sums(np.ones(units))
    return np.array([np.partition(subset_sums(-row) / sizes, -patterns)[-patterns] for row in noises])


def _t_test_size(units: int, alpha: float, power: float) -> float | None:
    """The effect in standard deviations that a one-sided paired t-test finds with `power`; None where the
    solver fails: scipy's noncentral t has holes of NaN at 5 or fewer units and alpha of .005 or less."""
    import warnings

    import numpy as np
    from statsmodels.stats.power import TTestPower
    from statsmodels.tools.sm_exceptions import ConvergenceWarning

    test = TTestPower()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.simplefilter("ignore", RuntimeWarning)
        solved = test.solve_power(None, nobs=units, alpha=alpha, power=power, alternative="larger")
        size = float(np.ravel(solved)[0])
        reached = float(test.power(size, units, alpha, alternative="larger"))
    return size if abs(reached - power) < 0.03 else None
