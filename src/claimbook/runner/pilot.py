"""What exploratory runs tell before the seal: how much the difference varies, and how test items cluster."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from claimbook import products
from claimbook.errors import RecordError
from claimbook.experiments import Experiment
from claimbook.judge.verdict import cluster_means
from claimbook.products.named import named_in
from claimbook.records import ItemScores, Run
from claimbook.runner.state import State
from claimbook.workspace import Workspace


@dataclass(frozen=True)
class Pilot:
    """The latest pilot: exploratory pairs of this notebook and product set."""

    seeds: list[int] = field(default_factory=list)
    """Seeds of its pairs."""
    differences: list[float] = field(default_factory=list)
    """treatment − baseline: one per seed (scope method), or per cluster of one seed (checkpoints)."""
    items: int | None = None
    """Items that it scored; None where it left no item scores."""
    clusters: int | None = None


@dataclass(frozen=True)
class Clusters:
    """The test split of the product sets that the hypothesis names."""

    pictures: int
    products: int


def test_clusters(workspace: Workspace, state: State) -> Clusters:
    """How many pictures and products there are to be scored."""
    tests = [products.load(name, workspace=workspace).test for name in named_in(state.parameters.values())]
    return Clusters(sum(map(len, tests)), sum(len(set(test.products)) for test in tests))


def latest_pilot(experiment: Experiment, runs: list[Run], state: State) -> Pilot:
    """The pilot made last, of runs whose arms are set as in the hypothesis.

    The other parameters need only be the same in all of the pilot's runs, so that a pilot may be scored on
    the validation split.
    """
    pairs = _pairs(runs, state)
    if not pairs:
        return Pilot()
    metric, seeds = state.hypothesis.metric, sorted(pairs)
    scores = _item_scores(experiment, pairs[seeds[-1]], metric)
    sizes = {"items": len(scores[0].item), "clusters": len(set(scores[0].cluster))} if scores else {}
    if state.hypothesis.scope == "method":
        differences = [pairs[seed][1].metrics[metric] - pairs[seed][0].metrics[metric] for seed in seeds]
        return Pilot(seeds, differences, **sizes)
    if not scores:
        return Pilot(seeds[-1:])
    baseline, treatment = (cluster_means(one, metric) for one in scores)
    shared = sorted(baseline.keys() & treatment.keys())
    return Pilot(seeds[-1:], [treatment[name] - baseline[name] for name in shared], **sizes)


def _pairs(runs: list[Run], state: State) -> dict[int, tuple[Run, Run]]:
    """Baseline and treatment of the latest pilot, by seed."""
    hypothesis = state.hypothesis
    own = {name for arm in hypothesis.arms.values() for name in arm}
    pilots: dict[str, dict[tuple[str, int], Run]] = defaultdict(dict)
    latest = ""
    for run in runs:
        if (
            run.kind != "exploratory"
            or run.status != "finished"
            or run.arm not in hypothesis.arms
            or hypothesis.metric not in run.metrics
            or any(run.fingerprints.get(part) != state.fingerprints[part] for part in ("notebook", "data"))
        ):
            continue
        intended = state.parameters[run.arm, hypothesis.seeds[0]]
        if any(run.parameters.get(name) != intended[name] for name in own):
            continue
        latest = repr(sorted((k, v) for k, v in run.parameters.items() if k not in own | {"seed"}))
        pilots[latest][run.arm, run.seed] = run
    pilot = pilots.get(latest, {})
    return {
        seed: (run, pilot["treatment", seed])
        for (arm, seed), run in pilot.items()
        if arm == "baseline" and ("treatment", seed) in pilot
    }


def _item_scores(experiment: Experiment, pair: tuple[Run, Run], metric: str) -> list[ItemScores]:
    """Of both runs; empty where a file is damaged or put away, for a pilot decides nothing."""
    try:
        scores = [experiment.items(run) for run in pair]
    except RecordError:
        return []
    return scores if all(metric in one.scores for one in scores) else []
