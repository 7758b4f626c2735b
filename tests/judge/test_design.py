"""What is refused, and what is warned of, before anything is run."""

import math
from collections.abc import Callable
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest
from scipy.stats import ttest_1samp

from claimbook.errors import SealError
from claimbook.judge import assess_design, statistics
from claimbook.judge.design import seeds_needed
from claimbook.records import Questions

Build = Callable[..., Any]
CONTROL = {"shuffled": {"shuffle_pairs": True}}
PILOT = [0.010, 0.030, 0.020]  # standard deviation .01


def test_a_sound_design_is_neither_refused_nor_warned_of(hypothesis: Build) -> None:
    design = assess_design(hypothesis(controls=CONTROL))
    design.refuse()
    assert (design.problems, design.warnings) == ((), ())
    assert design.smallest_p == design.smallest_p_adjusted == 2 / 64


def test_five_seeds_are_refused_with_the_number_that_is_needed(hypothesis: Build) -> None:
    design = assess_design(hypothesis(seeds=[0, 1, 2, 3, 4]))
    with pytest.raises(SealError, match=r"5 seeds .* cannot get below p = 0\.0625, and alpha") as raised:
        design.refuse()
    assert raised.value.fix == "take at least 6 seeds"


def test_a_family_asks_for_more_seeds(hypothesis: Build) -> None:
    design = assess_design(hypothesis(), family_size=3)
    assert design.smallest_p_adjusted == 6 / 64
    assert "in a family of 3" in design.problems[0].problem
    assert design.problems[0].fix == "take at least 7 seeds"


@pytest.mark.parametrize(
    ("alpha", "family", "seeds"), [(0.05, 1, 6), (0.01, 1, 8), (0.05, 3, 7), (0.05, 20, 10), (0.25, 1, 3)]
)
def test_seeds_needed_by_hand(alpha: float, family: int, seeds: int) -> None:
    assert family * 2 / 2**seeds <= alpha < family * 2 / 2 ** (seeds - 1)
    assert seeds_needed(alpha, family) == seeds


@pytest.mark.parametrize("kind", ["non-inferiority", "equivalence"])
def test_intervals_decide_the_other_kinds_so_few_seeds_are_enough(hypothesis: Build, kind: str) -> None:
    assert assess_design(hypothesis(seeds=[0, 1, 2], kind=kind)).problems == ()
    (found,) = assess_design(hypothesis(seeds=[0], kind=kind)).problems
    assert "one seed has no interval" in found.problem


def test_checkpoints_take_one_seed(hypothesis: Build) -> None:
    (found,) = assess_design(hypothesis(scope="checkpoints")).problems
    assert "compares one training each, and 6 seeds" in found.problem
    assert assess_design(hypothesis(scope="checkpoints", seeds=[0])).problems == ()


def test_checkpoints_have_a_smallest_p_too(hypothesis: Build) -> None:
    (found,) = assess_design(hypothesis(scope="checkpoints", seeds=[0]), family_size=600).problems
    assert "cannot get below p = 0.06" in found.problem


def test_empty_questions_are_named(hypothesis: Build) -> None:
    answers = {name: "Said." for name in Questions.__struct_fields__} | {"tried": "", "service": "…"}
    (found,) = assess_design(hypothesis(questions=Questions(**answers))).problems
    assert found.problem == "questions without an answer: tried, service"


def test_arms_that_differ_on_paper_only_are_refused(hypothesis: Build) -> None:
    same = hypothesis(parameters={"loss": "softmax"}, arms={"baseline": {}, "treatment": {"loss": "softmax"}})
    assert "same parameters" in assess_design(same).problems[0].problem


def test_a_control_that_changes_nothing_is_refused(hypothesis: Build) -> None:
    (found,) = assess_design(hypothesis(controls={"shuffled": {"loss": "sigmoid"}})).problems
    assert "controls.shuffled" in found.problem


def test_no_control_is_a_warning(hypothesis: Build) -> None:
    design = assess_design(hypothesis())
    design.refuse()
    assert "no control" in design.warnings[0].problem


def test_all_problems_are_told_at_once(hypothesis: Build) -> None:
    design = assess_design(hypothesis(seeds=[0], questions=Questions()))
    with pytest.raises(SealError, match=r"1 seed .*; questions without an answer: problem, "):
        design.refuse()


@pytest.mark.parametrize(("seeds", "family"), [(6, 1), (7, 3), (8, 5)])
def test_where_only_differences_of_one_sign_reach_alpha_the_detectable_effect_is_known_by_hand(
    hypothesis: Build, seeds: int, family: int
) -> None:
    design = assess_design(hypothesis(controls=CONTROL, seeds=list(range(seeds))), PILOT, family)
    assert design.pilot_sd == pytest.approx(0.01)
    # all n normal differences are positive in 80 %: each is with the n-th root of that
    assert design.detectable == pytest.approx(0.01 * NormalDist().inv_cdf(0.8 ** (1 / seeds)), rel=0.02)


@pytest.mark.parametrize("seeds", [7, 8, 10])
def test_superiority_is_significant_and_supported_in_four_of_five_simulated_experiments(
    hypothesis: Build, seeds: int
) -> None:
    margin = 0.008
    design = assess_design(hypothesis(seeds=list(range(seeds)), margin=margin), PILOT)
    assert design.detectable is not None
    assert design.supportable is not None
    noise = np.random.default_rng(1).normal(0, 0.01, (1_000, seeds))
    for effect, least in ((design.detectable, -math.inf), (design.supportable, margin)):
        found = [
            row.mean() >= least and statistics.sign_flip_p(row.tolist()) <= 0.05 for row in noise + effect
        ]
        assert np.mean(found) == pytest.approx(0.8, abs=0.035)


def test_an_effect_that_is_supported_lies_above_the_margin_and_takes_no_less_than_a_significant_one(
    hypothesis: Build,
) -> None:
    for margin in (0.0001, 0.01, 0.1):
        design = assess_design(hypothesis(margin=margin), PILOT)
        assert design.detectable is not None
        assert design.supportable is not None
        assert design.supportable >= design.detectable
        assert design.supportable > margin
    assert assess_design(hypothesis(kind="equivalence"), PILOT).supportable is None


@pytest.mark.parametrize(("kind", "level"), [("non-inferiority", 0.95), ("equivalence", 0.90)])
def test_the_smallest_margin_is_shown_in_four_of_five_where_the_arms_do_the_same(
    hypothesis: Build, kind: str, level: float
) -> None:
    design = assess_design(hypothesis(kind=kind), [0.010, 0.030, 0.020])
    assert design.detectable is not None
    interval = ttest_1samp(np.random.default_rng(0).normal(0, 0.01, (6, 20_000)), 0).confidence_interval(
        level
    )
    shown = interval.low > -design.detectable
    if kind == "equivalence":
        shown &= interval.high < design.detectable
    assert np.mean(shown) == pytest.approx(0.8, abs=0.015)


def test_an_effect_that_cannot_be_seen_is_a_warning(hypothesis: Build) -> None:
    design = assess_design(hypothesis(controls=CONTROL, margin=0.005), [0.010, 0.030, 0.020])
    (found,) = design.warnings
    assert "the smallest difference that is found in 80 % of such experiments is 0.018" in found.problem
    assert assess_design(hypothesis(controls=CONTROL, margin=0.02), [0.010, 0.030, 0.020]).warnings == ()


def test_a_larger_family_makes_effects_harder_to_see(hypothesis: Build) -> None:
    pilot, eight = [0.010, 0.030, 0.020], hypothesis(seeds=list(range(8)))
    alone, of_four = assess_design(eight, pilot), assess_design(eight, pilot, family_size=4)
    assert alone.detectable is not None
    assert of_four.detectable is not None
    assert alone.detectable < of_four.detectable


def test_the_power_of_checkpoints_is_that_of_the_pilots_clusters(hypothesis: Build) -> None:
    pilot = np.random.default_rng(0).normal(0, 0.1, 100).tolist()
    few = assess_design(hypothesis(scope="checkpoints", seeds=[0]), pilot[:25])
    many = assess_design(hypothesis(scope="checkpoints", seeds=[0]), pilot)
    assert few.detectable is not None
    assert many.detectable == pytest.approx(2.83 * 0.1 / 10, rel=0.1)
    assert many.detectable < few.detectable


@pytest.mark.parametrize(
    ("pilot", "says"), [([0.01], "1 of the 2 differences"), ([0.01] * 3, "all its differences are equal")]
)
def test_a_pilot_without_spread_says_nothing_about_power(
    hypothesis: Build, pilot: list[float], says: str
) -> None:
    design = assess_design(hypothesis(controls=CONTROL), pilot)
    assert design.detectable is None
    assert says in design.warnings[0].problem


def test_where_the_power_cannot_be_computed_it_is_not_made_up(hypothesis: Build) -> None:
    design = assess_design(hypothesis(controls=CONTROL, alpha=0.001), [0.01, 0.03, 0.02])
    assert design.detectable is None
    assert "no power at this alpha" in design.warnings[0].problem
