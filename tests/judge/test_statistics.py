"""Each test of ours against an oracle that shares no code with it."""

import itertools
import math
import warnings
from fractions import Fraction

import numpy as np
import pytest
from scipy.stats import binomtest
from scipy.stats import t as student
from statsmodels.stats.weightstats import ttost_paired

from claimbook.judge import statistics


def enumerated_p(numerators: list[int]) -> Fraction:
    """The sign-flip p in whole numbers: no rounding, no tolerance."""
    observed = abs(sum(numerators))
    signs = list(itertools.product((-1, 1), repeat=len(numerators)))
    extreme = sum(abs(sum(s * n for s, n in zip(row, numerators, strict=True))) >= observed for row in signs)
    return Fraction(extreme, len(signs))


@pytest.mark.parametrize("units", [2, 3, 5, 6, 8, 10])
def test_sign_flip_p_is_the_share_of_all_sign_patterns_even_with_ties_and_zeros(units: int) -> None:
    random = np.random.default_rng(units)
    for _ in range(25):
        # hits out of 150 items: differences repeat, cancel and add up to one another
        baseline, treatment = random.integers(50, 60, units), random.integers(52, 62, units)
        differences = [t / 150 - b / 150 for b, t in zip(baseline, treatment, strict=True)]
        exact = enumerated_p([int(t - b) for b, t in zip(baseline, treatment, strict=True)])
        assert statistics.sign_flip_p(differences) == float(exact)


def test_sign_flip_p_is_right_where_the_mean_is_tiny_beside_the_differences() -> None:
    numerators = [100_000, -100_001, 3, -1]
    assert statistics.sign_flip_p([n / 7e5 for n in numerators]) == float(enumerated_p(numerators))


@pytest.mark.parametrize(("units", "smallest"), [(2, 0.5), (3, 0.25), (5, 0.0625), (6, 0.03125)])
def test_differences_of_one_sign_reach_the_smallest_p(units: int, smallest: float) -> None:
    assert statistics.smallest_sign_flip_p(units) == smallest
    assert statistics.sign_flip_p([0.01 * (n + 1) for n in range(units)]) == smallest


def test_no_difference_at_all_has_p_1() -> None:
    assert statistics.sign_flip_p([0.0] * 6) == 1.0
    assert statistics.sign_flip_p([0.0] * 40) == 1.0


def test_random_flips_are_the_same_every_time_and_in_every_order_and_count_the_observed_one() -> None:
    differences = [float(d) for d in np.random.default_rng(0).normal(3, 1, 60)]
    assert statistics.sign_flip_p(differences) == 1 / 10_000 == statistics.smallest_sign_flip_p(60)
    weak = [d - 2.9 for d in differences]
    assert statistics.sign_flip_p(weak) == statistics.sign_flip_p(weak[::-1])


def test_random_flips_come_close_to_all_of_them() -> None:
    numerators = [int(n) for n in np.random.default_rng(2).integers(-40, 70, 17)]
    exact = float(enumerated_p(numerators))
    tolerance = 4 * math.sqrt(exact * (1 - exact) / statistics.RESAMPLES)
    assert statistics.sign_flip_p([n / 100 for n in numerators]) == pytest.approx(exact, abs=tolerance)


def test_t_interval_by_hand() -> None:
    # mean 2, sd 1, standard error 1/√3; t(2 df, .975) = 4.30265
    low, high = statistics.t_interval([1.0, 2.0, 3.0], 0.95)
    assert (low, high) == pytest.approx((2 - 4.30265 / math.sqrt(3), 2 + 4.30265 / math.sqrt(3)), abs=1e-5)
    assert float(student.ppf(0.975, 2)) == pytest.approx(4.30265, abs=1e-5)


@pytest.mark.parametrize("differences", [[0.02] * 6, [0.0] * 6, [0.42 - 0.41, 0.32 - 0.31, 0.22 - 0.21]])
def test_equal_differences_give_a_point_and_no_warning(differences: list[float]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        low, high = statistics.t_interval(differences, 0.95)
    assert low == high == pytest.approx(differences[0])


def test_the_narrow_interval_lies_within_the_margin_exactly_when_two_one_sided_tests_say_so() -> None:
    random = np.random.default_rng(3)
    decisions = set()
    for _ in range(200):
        baseline = random.normal(0.4, 0.02, 8)
        treatment = baseline + random.normal(0.004, 0.012, 8)
        p, _, _ = ttost_paired(treatment, baseline, -0.01, 0.01)
        interval = statistics.t_interval((treatment - baseline).tolist(), 1 - 2 * 0.05)
        assert statistics.within(interval, 0.01) == bool(p <= 0.05)
        decisions.add(bool(p <= 0.05))
    assert decisions == {True, False}


def test_mcnemar_is_a_binomial_test_on_the_pairs_that_disagree() -> None:
    baseline = [1.0] * 3 + [0.0] * 12 + [1.0] * 20 + [0.0] * 5
    treatment = [0.0] * 3 + [1.0] * 12 + [1.0] * 20 + [0.0] * 5
    assert statistics.mcnemar_p(baseline, treatment) == pytest.approx(binomtest(3, 15).pvalue)
    assert statistics.mcnemar_p([1.0, 0.0], [1.0, 0.0]) == 1.0


def test_many_units_do_not_overflow_the_smallest_p() -> None:
    assert statistics.smallest_mcnemar_p(5_000) == 0.0
    assert statistics.smallest_mcnemar_p(8) == 2 / 2**8


def test_holm_by_hand() -> None:
    # sorted .01, .02, .03: ×3 = .03, ×2 = .04, ×1 = .03 lifted to .04
    assert statistics.holm(0.01, {"b": 0.02, "c": 0.03}) == pytest.approx(0.03)
    assert statistics.holm(0.02, {"a": 0.01, "c": 0.03}) == pytest.approx(0.04)
    assert statistics.holm(0.03, {"a": 0.01, "b": 0.02}) == pytest.approx(0.04)


def test_an_unknown_p_takes_its_place_in_the_family() -> None:
    assert statistics.holm(0.01, {}) == 0.01
    assert statistics.holm(0.01, {"b": None, "c": None}) == pytest.approx(0.03)
    assert statistics.holm(0.6, {"b": None}) == 1.0


def test_a_difference_that_is_the_margin_is_not_below_it() -> None:
    assert 0.29 - 0.28 < 0.01
    assert not statistics.below(0.29 - 0.28, 0.01)
    assert statistics.below(0.00999, 0.01)
