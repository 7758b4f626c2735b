"""Which records give which verdict, and which give none."""

import json
import math
import random
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest
from scipy.stats import binomtest
from scipy.stats import t as student

from claimbook.errors import JudgeError, RecordError
from claimbook.judge import judge
from claimbook.records import ItemScores, Scale, Verdict, decode_json, encode_json

Build = Callable[..., Any]
# six differences around a mean, with a spread of about .001
NOISE = (-0.0012, -0.0007, -0.0001, 0.0003, 0.0006, 0.0011)


def around(mean: float, scale: float = 1.0) -> list[float]:
    return [mean + scale * noise for noise in NOISE]


@pytest.mark.parametrize(
    ("kind", "mean", "scale", "outcome", "equivalent"),
    [
        ("superiority", 0.02, 1, "supported", False),
        ("superiority", 0.005, 1, "refuted", True),
        ("superiority", -0.02, 1, "refuted", False),
        ("superiority", 0.02, 60, "inconclusive", False),
        ("superiority", 0.0095, 1, "inconclusive", False),
        ("superiority", 0.002, 10.5, "equivalent", True),
        ("non-inferiority", 0.0, 1, "supported", True),
        ("non-inferiority", -0.02, 1, "refuted", False),
        ("non-inferiority", -0.01, 5, "inconclusive", False),
        ("equivalence", 0.001, 1, "supported", True),
        ("equivalence", 0.02, 1, "refuted", False),
        ("equivalence", -0.02, 1, "refuted", False),
        ("equivalence", 0.01, 5, "inconclusive", False),
    ],
)
def test_every_outcome_of_every_kind(
    by_seed: Build, kind: str, mean: float, scale: float, outcome: str, equivalent: bool
) -> None:
    verdict = by_seed(around(mean, scale), kind=kind).judge()
    assert (verdict.outcome, verdict.equivalent) == (outcome, equivalent)
    assert verdict.reasons == []


def test_effect_interval_p_and_means_by_hand(by_seed: Build) -> None:
    differences = [0.01, 0.02, 0.03, 0.02, 0.01, 0.03]
    verdict = by_seed(differences).judge()
    half = float(student.ppf(0.975, 5)) * float(np.std(differences, ddof=1)) / math.sqrt(6)
    assert verdict.effect == pytest.approx(0.02)
    assert verdict.interval == pytest.approx([0.02 - half, 0.02 + half])
    assert (verdict.p, verdict.p_adjusted, verdict.smallest_p, verdict.units) == (2 / 64, 2 / 64, 2 / 64, 6)
    assert verdict.means == pytest.approx({"baseline": 0.4025, "treatment": 0.4225})
    assert [pair.difference for pair in verdict.pairs] == pytest.approx(differences)
    assert verdict.pairs[2].runs == ["004-baseline-2", "005-treatment-2"]


def test_where_lower_is_better_the_sign_turns(by_seed: Build) -> None:
    verdict = by_seed(around(-0.02), direction="lower").judge()
    assert verdict.outcome == "supported"
    assert verdict.effect == pytest.approx(0.02)
    assert verdict.means["treatment"] < verdict.means["baseline"]


def test_five_seeds_never_support_superiority(by_seed: Build) -> None:
    verdict = by_seed([0.05, 0.051, 0.052, 0.049, 0.05]).judge()
    assert (verdict.outcome, verdict.p) == ("inconclusive", 0.0625)


def test_equal_differences_are_judged_without_a_nan(by_seed: Build) -> None:
    verdict = by_seed([0.02] * 6).judge()
    assert verdict.outcome == "supported"
    assert verdict.interval == pytest.approx([0.02, 0.02])
    assert "NaN" not in json.dumps(encode_json(verdict))


def test_the_family_adjusts_p_and_can_take_the_support_away(by_seed: Build) -> None:
    study = by_seed(around(0.02))
    alone, one_more = study.judge(), study.judge(family={"other": None})
    assert (alone.outcome, one_more.outcome) == ("supported", "inconclusive")
    assert one_more.p_adjusted == 2 * 2 / 64
    assert one_more.family == {"other": None, "siglip-small-batch": 0.03125}
    # a smaller p of another takes the full multiplier: ours carries the next
    assert study.judge(family={"other": 0.001}).p_adjusted == 2 / 64


def test_its_own_slug_in_the_family_is_not_counted_twice(by_seed: Build) -> None:
    verdict = by_seed(around(0.02)).judge(family={"siglip-small-batch": 0.5})
    assert verdict.p_adjusted == 2 / 64
    assert verdict.family == {"siglip-small-batch": 0.03125}


def test_superiority_is_seldom_supported_when_there_is_none(by_seed: Build) -> None:
    null = np.random.default_rng(0)
    supported = 0
    for _ in range(400):
        differences = null.normal(0, 0.03, 6).tolist()
        supported += by_seed(differences, margin=0.0001).judge().outcome == "supported"
    assert supported / 400 <= 0.05


# controls


def test_a_control_at_chance_admits_the_verdict(by_seed: Build) -> None:
    verdict = by_seed(around(0.02), controls={"shuffled": around(0.001)}).judge()
    (control,) = verdict.controls
    half = float(student.ppf(0.95, 5)) * float(np.std(NOISE, ddof=1)) / math.sqrt(6)
    assert (verdict.outcome, control.passed) == ("supported", True)
    assert control.interval == pytest.approx([0.001 - half, 0.001 + half])
    assert (control.mean, control.chance, control.tolerance) == pytest.approx((0.251, 0.25, 0.01))
    assert verdict.means["shuffled"] == control.mean


@pytest.mark.parametrize("excess", [around(0.05), around(-0.05), around(0.0, scale=30)])
def test_a_control_not_shown_at_chance_makes_the_verdict_inadmissible(
    by_seed: Build, excess: list[float]
) -> None:
    verdict = by_seed(around(0.02), controls={"blind": around(0.0), "shuffled": excess}).judge()
    assert verdict.outcome == "inadmissible"
    assert [control.passed for control in verdict.controls] == [True, False]
    assert len(verdict.reasons) == 1
    assert "control shuffled scores" in verdict.reasons[0]
    assert verdict.effect == pytest.approx(0.02)
    assert verdict.p_adjusted == 2 / 64


def test_a_control_that_always_scores_chance_passes(by_seed: Build) -> None:
    verdict = by_seed(around(0.02), controls={"shuffled": [0.0] * 6}).judge()
    assert verdict.controls[0].interval == pytest.approx([0, 0])
    assert verdict.controls[0].passed


def test_each_score_of_a_control_is_compared_with_the_chance_of_its_own_run(by_seed: Build) -> None:
    study = by_seed(around(0.02), controls={"shuffled": [0.0, 0.1, 0.2, 0.0, 0.1, 0.2]})
    for seed in range(6):
        study.change("shuffled", seed, chance={"recall@1": 0.25 + 0.1 * (seed % 3)})
    control = study.judge().controls[0]
    assert control.passed
    assert control.chance == pytest.approx(0.35)


def test_a_control_without_chance_level_is_an_error(by_seed: Build) -> None:
    study = by_seed(around(0.02), controls={"shuffled": around(0.0)})
    run = study.change("shuffled", 3, chance={"recall@5": 0.5})
    with pytest.raises(JudgeError, match=rf"{run.id}.*no chance level of recall@1"):
        study.judge()


def test_seeds_that_change_nothing_are_no_evidence_about_a_method(by_seed: Build, four_items: Build) -> None:
    study = by_seed(around(0.02))
    kept, study.runs, study.items = study.seal, [], {}
    for seed in kept.hypothesis.seeds:
        study.add("baseline", seed, four_items(0.40))
        study.add("treatment", seed, four_items(0.42))
    verdict = study.judge()
    assert verdict.outcome == "inadmissible"
    assert "one measurement" in verdict.reasons[0]


# deviations


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"parameters": {"loss": "sigmoid", "epochs": 7, "seed": 1}}, "parameter epochs is 7, and 6"),
        ({"parameters": {"loss": "sigmoid", "seed": 1}}, "parameter epochs is missing, and 6"),
        ({"parameters": {"loss": "sigmoid", "epochs": 6, "seed": 2}}, "parameter seed is 2, and 1"),
        (
            {"fingerprints": {"notebook": "x", "code": {"vlm/loss.py": "c" * 64}, "data": "d" * 64}},
            "notebook",
        ),
        ({"fingerprints": {"notebook": "n" * 64, "code": {}, "data": "d" * 64}}, "vlm/loss.py"),
        ({"fingerprints": {"notebook": "n" * 64, "code": {"vlm/loss.py": "c" * 64}}}, "product set"),
    ],
)
def test_a_run_that_is_not_as_sealed_makes_the_verdict_deviate(
    by_seed: Build, changes: dict[str, Any], says: str
) -> None:
    study = by_seed(around(0.02), controls={"shuffled": around(0.05)})
    run = study.change("treatment", 1, **changes)
    verdict = study.judge()
    assert verdict.outcome == "deviated"  # before inadmissible, which it would be as well
    assert len(verdict.reasons) == 1
    assert run.id in verdict.reasons[0]
    assert says in verdict.reasons[0]
    assert verdict.effect == pytest.approx(0.02)


def test_a_whole_number_that_the_notebook_took_as_a_float_is_as_sealed(by_seed: Build) -> None:
    study = by_seed(around(0.02))
    study.change("treatment", 1, parameters={"loss": "sigmoid", "epochs": 6.0, "width": 32})
    assert study.judge().outcome == "supported"
    study.change("treatment", 1, parameters={"loss": "sigmoid", "epochs": 6, "seed": True})
    assert study.judge().outcome == "deviated"


@pytest.mark.parametrize(("arm", "seed"), [("treatment", 17), ("third", 0)])
def test_an_unregistered_seed_or_arm_deviates(by_seed: Build, four_items: Build, arm: str, seed: int) -> None:
    study = by_seed(around(0.02))
    run = study.add(arm, seed, four_items(0.9))
    verdict = study.judge()
    assert verdict.outcome == "deviated"
    assert run.id in verdict.reasons[0]
    assert verdict.units == 6  # it is told, and it never counts


def test_a_deviation_is_told_even_while_runs_are_missing(by_seed: Build, four_items: Build) -> None:
    study = by_seed(around(0.02))
    study.add("treatment", 17, four_items(0.9))
    study.change("baseline", 2, status="failed")
    verdict = study.judge()
    assert verdict.outcome == "deviated"
    assert verdict.effect is verdict.interval is verdict.p is None


# which runs count


def test_the_first_run_counts_and_a_replication_is_only_reported(by_seed: Build, four_items: Build) -> None:
    study = by_seed(around(0.02))
    before = study.judge()
    study.add("treatment", 2, four_items(0.9))
    after = study.judge()
    assert before.replication is None
    assert after.replication == pytest.approx(0.9 - study.runs[5].metrics["recall@1"])
    assert msgspec.structs.replace(after, replication=None) == before


def test_exploratory_failed_and_formerly_sealed_runs_do_not_count(by_seed: Build, four_items: Build) -> None:
    study = by_seed(around(0.02))
    before = study.judge()
    study.add("treatment", 0, four_items(0.9), kind="exploratory", seal=None)
    study.add("treatment", 0, four_items(0.9), seal="an older one")
    study.add("treatment", 0, four_items(0.9), status="failed")
    study.add("treatment", 99, four_items(0.9), kind="exploratory", seal=None)
    assert study.judge() == before


def test_all_missing_runs_are_listed_with_what_became_of_them(by_seed: Build) -> None:
    study = by_seed(around(0.02))
    study.change("treatment", 0, status="timed-out")
    study.change("treatment", 1, kind="exploratory", seal=None)
    study.change("treatment", 2, seal="an older one")
    study.runs = [run for run in study.runs if (run.arm, run.seed) != ("baseline", 5)]
    with pytest.raises(JudgeError) as raised:
        study.judge()
    assert raised.value.problem == (
        "4 of 12 sealed runs have no result: baseline seed 5 (never run), treatment seed 0 (timed-out), "
        "treatment seed 1 (exploratory only), treatment seed 2 (under another seal)"
    )
    assert raised.value.fix == "claimbook run siglip-small-batch"


def test_a_missing_run_of_a_control_is_missing_too(by_seed: Build) -> None:
    study = by_seed(around(0.02), controls={"shuffled": around(0.0)})
    study.change("shuffled", 4, status="lost")
    with pytest.raises(JudgeError, match=r"1 of 18 .*shuffled seed 4 \(lost\)"):
        study.judge()


# what the records must agree on


def test_a_recorded_metric_that_is_not_the_mean_of_the_items_is_an_error(by_seed: Build) -> None:
    study = by_seed(around(0.02))
    run = study.change("treatment", 4, metrics={"recall@1": 0.5})
    with pytest.raises(JudgeError, match=rf"{run.id} recorded recall@1 = 0\.5.*0\.4246"):
        study.judge()


def test_a_run_without_the_metric_is_an_error(by_seed: Build, four_items: Build) -> None:
    study = by_seed(around(0.02))
    run = study.change("treatment", 4, metrics={"loss": 0.5})
    with pytest.raises(JudgeError, match=rf"{run.id} recorded no recall@1; it recorded loss"):
        study.judge()
    study.change("treatment", 4, metrics={"recall@1": 0.5})
    study.items[run.id] = ItemScores.of(four_items(0.5, metric="recall@5"))
    with pytest.raises(JudgeError, match=rf"{run.id} has no item scores of recall@1; it has recall@5"):
        study.judge()


def test_arms_scored_on_different_items_are_an_error(by_seed: Build) -> None:
    study = by_seed(around(0.02))
    run = study.runs[3]
    other = ["a1", *(f"x{number}" for number in range(9))]
    scores = {"item": other, "cluster": ["a"] * 10, "recall@1": [run.metrics["recall@1"]] * 10}
    study.items[run.id] = ItemScores.of(scores)
    with pytest.raises(JudgeError, match=r"seed 1 .*differ in 12 test items .*: a2, b1, b2, x0, x1, …"):
        study.judge()


def test_items_in_other_clusters_are_an_error(by_seed: Build) -> None:
    study = by_seed(around(0.02))
    run = study.runs[3]
    kept = study.items[run.id]
    study.items[run.id] = ItemScores(kept.item, ("a", "b", "b", "b"), kept.scores)
    with pytest.raises(JudgeError, match=r"differ in 1 test items or their clusters: a2"):
        study.judge()


def test_changed_item_scores_pass_their_own_error_on(by_seed: Build) -> None:
    study = by_seed(around(0.02))

    def changed(run: Any) -> ItemScores:
        raise RecordError("the item scores are not those that the run wrote", fix="restore", where=run.id)

    with pytest.raises(RecordError, match="not those that the run wrote"):
        judge("siglip-small-batch", study.seal, study.runs, changed)


def test_one_seed_cannot_speak_of_a_method(by_seed: Build) -> None:
    with pytest.raises(JudgeError, match="one seed says nothing"):
        by_seed([0.02]).judge()


# scope checkpoints


def test_checkpoints_are_compared_over_cluster_means_not_items(by_item: Build) -> None:
    # product a gains .2 on four pictures, b and c nothing on one each: the mean over products is .2/3
    verdict = by_item(
        [0.1, 0.2, 0.3, 0.4, 0.5, 0.6],
        [0.3, 0.4, 0.5, 0.6, 0.5, 0.6],
        ["a", "a", "a", "a", "b", "c"],
    ).judge()
    assert verdict.units == 3
    assert verdict.effect == pytest.approx(0.2 / 3)
    assert verdict.means == pytest.approx({"baseline": 1.35 / 3, "treatment": 1.55 / 3})
    assert verdict.pairs[0].difference == pytest.approx(0.8 / 6)
    assert verdict.p == 1.0  # of eight flips all give the same size: only product a differs


def test_single_binary_items_get_mcnemars_exact_test(by_item: Build) -> None:
    baseline = [1.0] * 50 + [0.0] * 3 + [1.0] * 15 + [0.0] * 32
    treatment = [1.0] * 50 + [1.0] * 3 + [0.0] * 15 + [0.0] * 32
    verdict = by_item(baseline, treatment).judge()
    assert verdict.p == pytest.approx(binomtest(3, 18).pvalue)
    assert verdict.effect == pytest.approx(-0.12)
    assert verdict.outcome == "refuted"


def test_every_outcome_of_checkpoints(by_item: Build) -> None:
    random_items = np.random.default_rng(5)
    baseline = random_items.uniform(0.2, 0.6, 200)
    for gain, noise, outcome in (
        (0.03, 0.02, "supported"),
        (0.0, 0.02, "refuted"),
        (0.007, 0.05, "inconclusive"),
    ):
        treatment = baseline + gain + random_items.normal(0, noise, 200)
        assert by_item(baseline.tolist(), treatment.tolist()).judge().outcome == outcome


def test_a_control_of_checkpoints_is_tested_over_clusters(by_item: Build) -> None:
    random_items = np.random.default_rng(6)
    baseline = random_items.uniform(0.2, 0.6, 300)
    controls = {"shuffled": {"shuffle_pairs": True}}
    study = by_item(baseline.tolist(), (baseline + 0.02).tolist(), controls=controls)
    scores = random_items.normal(0.05, 0.05, 300)
    names = {"item": list(study.items[study.runs[0].id].item), "cluster": [n % 100 for n in range(300)]}
    study.add("shuffled", 0, {**names, "recall@1": scores.tolist()}, chance={"recall@1": 0.05})
    control = study.judge().controls[0]
    assert control.passed
    means = scores.reshape(3, 100).mean(axis=0) - 0.05
    half = float(student.ppf(0.95, 99)) * float(means.std(ddof=1)) / 10
    assert control.interval == pytest.approx([means.mean() - half, means.mean() + half])


def test_false_positives_stay_at_five_percent_where_pictures_share_a_product(by_item: Build) -> None:
    null = np.random.default_rng(8)
    clusters = [f"p{number // 5}" for number in range(100)]
    significant = 0
    for _ in range(200):
        shared = np.repeat(null.normal(0, 0.1, 20), 5)
        baseline = null.normal(0.5, 0.1, 100)
        treatment = baseline + shared + null.normal(0, 0.1, 100)
        verdict = by_item(baseline.tolist(), treatment.tolist(), clusters, kind="non-inferiority").judge()
        significant += verdict.p <= 0.05
    assert significant / 200 <= 0.085  # .05 and two standard errors; items as units give .2


def test_checkpoints_take_one_seed(by_seed: Build) -> None:
    with pytest.raises(JudgeError, match="compares one training each, and 6 seeds"):
        by_seed(around(0.02), scope="checkpoints").judge()


def test_one_cluster_has_no_spread(by_item: Build) -> None:
    with pytest.raises(JudgeError, match="one cluster"):
        by_item([0.1, 0.2], [0.2, 0.3], ["a", "a"]).judge()


def test_a_control_of_one_cluster_has_no_spread(by_item: Build) -> None:
    study = by_item([0.1, 0.2], [0.2, 0.3], controls={"blind": {"text": ""}})
    study.add("blind", 0, {"item": [1], "cluster": [1], "recall@1": [0.0]}, chance={"recall@1": 0.0})
    with pytest.raises(JudgeError, match="control blind has one cluster"):
        study.judge()


# the same records give the same bytes


def as_bytes(verdict: Verdict) -> bytes:
    return msgspec.json.encode(verdict)


def shuffled(scores: ItemScores, order: random.Random) -> ItemScores:
    places = list(range(len(scores.item)))
    order.shuffle(places)
    return ItemScores(
        tuple(scores.item[n] for n in places),
        tuple(scores.cluster[n] for n in places),
        {name: values[places] for name, values in scores.scores.items()},
    )


@pytest.mark.parametrize("scope", ["method", "checkpoints"])
def test_the_order_of_runs_items_and_family_changes_no_byte(
    by_seed: Build, by_item: Build, scope: str
) -> None:
    if scope == "method":
        study = by_seed(around(0.0137), controls={"b": around(0.001), "a": around(0.002)})
    else:
        scores = np.random.default_rng(1).uniform(0, 1, (2, 120))
        clusters = [f"p{number % 40}" for number in range(120)]
        study = by_item(scores[0].tolist(), scores[1].tolist(), clusters)
    first = as_bytes(study.judge(family={"x": 0.3, "y": None, "z": 0.001}))
    order = random.Random(0)
    for _ in range(5):
        order.shuffle(study.runs)
        study.items = {name: shuffled(items, order) for name, items in study.items.items()}
        assert as_bytes(study.judge(family={"z": 0.001, "y": None, "x": 0.3})) == first


def test_a_verdict_survives_its_file(by_seed: Build) -> None:
    scale = Scale(parameters=2e6, pairs_seen=1e5, resolution=64)
    study = by_seed(around(0.02), controls={"shuffled": around(0.0)})
    study.change("treatment", 0, scale=scale)
    verdict = study.judge(paper_scale=Scale(parameters=2e8), family={"other": None})
    assert verdict.our_scale == scale
    assert decode_json(json.dumps(encode_json(verdict), allow_nan=False), Verdict, "verdict.json") == verdict
