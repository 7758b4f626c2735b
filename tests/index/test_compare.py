"""Arms side by side, against numbers computed by hand."""

from __future__ import annotations

import math

import pytest

from claimbook.errors import QueryError, WorkspaceError
from claimbook.index import compare
from claimbook.index.compare import Paired, Summary


@pytest.fixture
def arms(log):
    """Three seeds of a baseline, two of a treatment, one of a control."""
    hour = "2026-11-24T{:02}:00:00Z".format

    def run(arm, seed, metric, at, **changes):
        changes = {"parameters": {"seed": seed, "lr": 0.1, "loss": "softmax"}, **changes}
        run_id = f"{arm}-{seed}-{at}"
        log.run("small", run_id, arm=arm, seed=seed, metrics={"m": metric}, started=hour(at), **changes)

    sigmoid = {"parameters": {"seed": 0, "lr": 0.1, "loss": "sigmoid", "bias": True}, "kind": "confirmatory"}
    run("treatment", 0, 0.5, 1, **sigmoid)
    run("treatment", 1, 0.9, 2, **sigmoid)
    run("baseline", 0, 0.7, 3)
    run("baseline", 0, 0.2, 4)  # made again: the later one counts
    run("baseline", 1, 0.4, 5)
    run("baseline", 2, 0.6, 6)
    run("baseline", 2, 0.0, 7, status="failed")
    run("shuffled", 0, 0.1, 8)
    log.hypothesis("small", "Small batches")
    return log.workspace


def test_two_arms_are_paired_by_seed(arms):
    compared = compare(arms, ["small/baseline", "small/treatment"])
    baseline, treatment = compared.sides
    assert baseline.name == "small/baseline"
    assert baseline.runs == ["baseline-0-4", "baseline-1-5", "baseline-2-6"]
    assert (baseline.kinds, treatment.kinds) == ({"exploratory": 3}, {"confirmatory": 2})
    # mean (0.2 + 0.4 + 0.6) / 3; sample deviation: squares 0.04 + 0 + 0.04, over 2
    assert baseline.metrics["m"].mean == pytest.approx(0.4)
    assert baseline.metrics["m"].deviation == pytest.approx(0.2)
    # differences 0.5 - 0.2 and 0.9 - 0.4: mean 0.4; deviation sqrt(0.1² + 0.1²)
    assert compared.paired["m"].seeds == [0, 1]
    assert compared.paired["m"].mean == pytest.approx(0.4)
    assert compared.paired["m"].deviation == pytest.approx(math.sqrt(0.02))


def test_only_parameters_that_differ_are_shown(arms):
    compared = compare(arms, ["small/baseline", "small/treatment"])
    assert compared.parameters == {"bias": [[None], [True]], "loss": [["softmax"], ["sigmoid"]]}


def test_an_experiment_stands_for_all_its_arms(arms):
    compared = compare(arms, ["small"])
    assert [side.name for side in compared.sides] == ["small/baseline", "small/treatment", "small/shuffled"]
    assert compared.paired == {}
    assert compared.sides[2].metrics == {"m": Summary(1, 0.1, None)}


def test_one_shared_seed_has_a_difference_and_no_deviation(arms):
    compared = compare(arms, ["small/shuffled", "small/treatment"])
    assert compared.paired == {"m": Paired([0], 0.4, None)}


def test_a_side_whose_runs_differ_shows_all_values(arms, log):
    log.run(
        "small", "pilot", arm="baseline", seed=9, parameters={"lr": 1, "loss": "softmax"}, metrics={"n": 1.0}
    )
    compared = compare(arms, ["small/baseline", "small/shuffled"])
    assert compared.parameters == {"lr": [[0.1, 1], [0.1]]}
    assert compared.metrics == ["m", "n"]
    assert compared.sides[0].metrics["n"] == Summary(1, 1.0, None)


def test_experiments_are_compared_across_folders(arms, log):
    log.run("large", "l1", arm="treatment", parameters={"lr": 0.1, "loss": "softmax"}, metrics={"m": 0.3})
    compared = compare(arms, ["large", "small/baseline"])
    assert [side.name for side in compared.sides] == ["large/treatment", "small/baseline"]
    assert compared.paired["m"].mean == pytest.approx(-0.1)


@pytest.mark.parametrize(
    ("names", "error", "problem"),
    [
        (["small/baseline"], QueryError, "nothing to compare small/baseline with"),
        (
            ["small/treatmnt", "small"],
            QueryError,
            "no finished run of an arm 'treatmnt', did you mean 'treatment'?",
        ),
        (["smal"], WorkspaceError, "no experiment 'smal', did you mean 'small'?"),
        (["empty", "small"], QueryError, "empty has no finished run"),
    ],
)
def test_what_cannot_be_compared_is_named(arms, log, names, error, problem):
    log.hypothesis("empty", "Nothing yet")
    with pytest.raises(error) as caught:
        compare(arms, names)
    assert problem in caught.value.problem
