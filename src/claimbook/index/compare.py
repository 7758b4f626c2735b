"""Arms side by side: which parameters differ, and what each metric was over the seeds. Reads the records.

Comparing is exploration. It gives no p value and no verdict: whoever compares what looks interesting
afterwards has chosen with the result in view, and a p value would count that choice as if it had been made
before. To know whether a difference holds, seal it as a hypothesis and judge it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from statistics import fmean, stdev

from claimbook.errors import QueryError
from claimbook.experiments import Experiment
from claimbook.records import Run
from claimbook.records.experiment import Value
from claimbook.workspace import Workspace, nearest


@dataclass(frozen=True)
class Summary:
    """One metric of one arm over its seeds."""

    n: int
    """Seeds."""
    mean: float
    deviation: float | None
    """Sample standard deviation over the seeds; None for a single one."""


@dataclass(frozen=True)
class Side:
    """One arm of one experiment: its latest finished run of every seed."""

    name: str
    """`experiment/arm`"""
    runs: list[str]
    """Ids, by seed."""
    kinds: dict[str, int]
    """How many of these runs are confirmatory, exploratory or replications."""
    metrics: dict[str, Summary]


@dataclass(frozen=True)
class Paired:
    """The second arm minus the first over the seeds that both have, in the metric's own unit and
    direction."""

    seeds: list[int]
    mean: float
    deviation: float | None
    """Sample standard deviation of the differences; None for a single one."""


@dataclass(frozen=True)
class Comparison:
    """Two or more arms side by side."""

    sides: list[Side]
    parameters: dict[str, list[list[Value | None]]]
    """The parameters that differ, the seed aside: for each side the values that its runs had, mostly one;
    None stands for a run without the parameter."""
    metrics: list[str]
    """Every metric that some side has."""
    paired: dict[str, Paired]
    """By metric, where there are exactly two sides and they share a seed; else empty."""


def compare(workspace: Workspace, names: list[str]) -> Comparison:
    """Put experiments (`siglip-small-batch`: all its arms) or arms (`siglip-small-batch/treatment`) side by
    side.

    Of several runs of an arm and seed the latest finished one is taken, whatever its kind. Raises
    WorkspaceError for an unknown experiment, QueryError for an arm without a finished run or fewer than two
    arms, RecordError for a run that cannot be read.
    """
    chosen: dict[str, dict[int, Run]] = {}
    for name in names:
        chosen |= _arms(workspace, name)
    if len(chosen) < 2:
        raise QueryError(
            f"there is nothing to compare {', '.join(chosen) or 'these names'} with",
            fix="name two experiments or arms, such as siglip-small-batch/treatment",
        )
    sides = [_side(name, runs) for name, runs in chosen.items()]
    metrics = list(dict.fromkeys(metric for side in sides for metric in side.metrics))
    pairs = _paired(metrics, *chosen.values()) if len(chosen) == 2 else {}
    return Comparison(sides, _differing(list(chosen.values())), metrics, pairs)


def _arms(workspace: Workspace, name: str) -> dict[str, dict[int, Run]]:
    """The finished runs by `experiment/arm` and seed, the latest of each seed."""
    slug, _, arm = name.partition("/")
    arms: dict[str, dict[int, Run]] = {}
    for run in Experiment.of(workspace, slug).runs():  # oldest first, so the latest one stays
        if run.status == "finished":
            arms.setdefault(run.arm, {})[run.seed] = run
    if arm and arm not in arms:
        raise QueryError(
            f"{slug} has no finished run of an arm {arm!r}{nearest(arm, list(arms))}",
            fix=f"name one of: {', '.join(sorted(arms)) or 'none yet'}",
            where=f"experiments/{slug}",
        )
    if not arms:
        raise QueryError(
            f"{slug} has no finished run",
            fix=f"`claimbook run {slug}` makes some",
            where=f"experiments/{slug}",
        )
    order = sorted(arms, key=lambda known: (known != "baseline", known != "treatment", known))
    return {f"{slug}/{known}": dict(sorted(arms[known].items())) for known in ([arm] if arm else order)}


def _side(name: str, runs: dict[int, Run]) -> Side:
    metrics = list(dict.fromkeys(metric for run in runs.values() for metric in run.metrics))
    return Side(
        name,
        [run.id for run in runs.values()],
        dict(Counter(run.kind for run in runs.values())),
        {
            metric: _summary([r.metrics[metric] for r in runs.values() if metric in r.metrics])
            for metric in metrics
        },
    )


def _summary(values: list[float]) -> Summary:
    return Summary(len(values), fmean(values), stdev(values) if len(values) > 1 else None)


def _differing(sides: list[dict[int, Run]]) -> dict[str, list[list[Value | None]]]:
    names = {name for runs in sides for run in runs.values() for name in run.parameters} - {"seed"}
    values = {name: [_values(name, runs) for runs in sides] for name in sorted(names)}
    return {name: sets for name, sets in values.items() if any(len(s) > 1 or s != sets[0] for s in sets)}


def _values(name: str, runs: dict[int, Run]) -> list[Value | None]:
    """The different values of a parameter, in the order of the seeds; 1 and True are different."""
    values = {repr(value): value for value in (run.parameters.get(name) for run in runs.values())}
    return list(values.values())


def _paired(metrics: list[str], first: dict[int, Run], second: dict[int, Run]) -> dict[str, Paired]:
    pairs = {}
    for metric in metrics:
        seeds = [
            s for s in first if s in second and metric in first[s].metrics and metric in second[s].metrics
        ]
        if seeds:
            summary = _summary([second[s].metrics[metric] - first[s].metrics[metric] for s in seeds])
            pairs[metric] = Paired(seeds, summary.mean, summary.deviation)
    return pairs
