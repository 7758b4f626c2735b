"""Seal and runs → Verdict, by rules fixed before the runs. Knows nothing of files or how runs are made.

The way: which runs the seal covers → what deviates from it → what is missing → scores from the raw items →
controls → effect, interval, p → outcome. The same records give the same Verdict to the last bit, in
whatever order they come.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import msgspec

from claimbook.errors import JudgeError
from claimbook.judge import statistics
from claimbook.judge.reasons import reason
from claimbook.records import (
    ControlCheck,
    Hypothesis,
    ItemScores,
    Run,
    Scale,
    SealEntry,
    SeedDifference,
    Verdict,
)
from claimbook.records.experiment import Value
from claimbook.records.run import agree
from claimbook.records.verdict import Outcome

Pair = tuple[str, int]
"""Arm (or control) and seed."""


@dataclass(frozen=True)
class _Scored:
    """A run that counts, with what its items say."""

    run: Run
    items: ItemScores
    score: float
    """Mean over items of the metric."""


@dataclass(frozen=True)
class _Effect:
    """What the paired units say of the difference in the better direction."""

    differences: list[float]
    """One per unit."""
    p: float
    test: Literal["sign-flip", "permutation", "mcnemar"]
    smallest_p: float
    means: dict[str, float]


def judge(
    experiment: str,
    seal: SealEntry,
    runs: Sequence[Run],
    items: Callable[[Run], ItemScores],
    *,
    family: Mapping[str, float | None] | None = None,
    paper_scale: Scale | None = None,
) -> Verdict:
    """The verdict of an experiment from its seal and all its runs, of any kind and status.

    items: loads the item scores of a finished run; its RecordError, when the file was changed, passes
    through. family: the other experiments sealed on the same product set and metric, slug → raw p, None
    while not judged. In scope checkpoints the verdict's means are means of cluster means, as its effect is;
    `pairs` keeps the metric as the runs recorded it.

    Raises JudgeError when a run is missing, when a recorded metric is not the mean of its items, when the
    arms of a seed were scored on different items, or when a control has no chance level. Nothing partial
    is judged: only a deviated verdict may lack its numbers.
    """
    covered = _covered(seal, runs)
    deviations = [found for run in covered for found in _deviations(seal, run)]
    return _judge(experiment, seal, runs, covered, deviations, items, family or {}, paper_scale)


def judge_rerun(
    experiment: str,
    seal: SealEntry,
    runs: Sequence[Run],
    items: Callable[[Run], ItemScores],
    *,
    rerun: str,
    family: Mapping[str, float | None],
) -> Verdict:
    """What the verdict would be if the replications of one rerun were the runs that count.

    They were made under another code or environment than the sealed one, which is what a rerun is for, so
    that is no deviation. Raises as `judge` does.
    """
    replications = [
        run for run in runs if run.status == "finished" and run.seal == seal.hash and run.rerun == rerun
    ]
    return _judge(experiment, seal, replications, _in_order(replications), [], items, family, None)


def largest_difference(seal: SealEntry, runs: Sequence[Run], rerun: str) -> tuple[float | None, str | None]:
    """The largest |difference| of the metric between a run that counts and its replication in a rerun, and
    its arm and seed such as "treatment s3"; None without a pair."""
    first = {pair: group[0] for pair, group in _by_arm_and_seed(_covered(seal, runs)).items()}
    metric = seal.hypothesis.metric
    differences = [
        (abs(run.metrics[metric] - first[run.arm, run.seed].metrics[metric]), f"{run.arm} s{run.seed}")
        for run in runs
        if run.rerun == rerun
        and run.status == "finished"
        and (run.arm, run.seed) in first
        and metric in run.metrics
        and metric in first[run.arm, run.seed].metrics
    ]
    return max(differences, default=(None, None))


def _judge(
    experiment: str,
    seal: SealEntry,
    runs: Sequence[Run],
    covered: list[Run],
    deviations: list[str],
    items: Callable[[Run], ItemScores],
    family: Mapping[str, float | None],
    paper_scale: Scale | None,
) -> Verdict:
    hypothesis = seal.hypothesis
    _check_seeds(experiment, hypothesis)
    groups = _by_arm_and_seed(covered)
    empty = _empty_verdict(experiment, seal, family, paper_scale)
    missing = [pair for pair in _needed(hypothesis) if pair not in groups]
    if missing and deviations:
        return msgspec.structs.replace(empty, outcome="deviated", reasons=deviations)
    if missing:
        raise _missing_error(experiment, seal, runs, missing)
    scored = {
        pair: _score(experiment, groups[pair][0], hypothesis.metric, items) for pair in _needed(hypothesis)
    }
    return _verdict(experiment, hypothesis, empty, scored, groups, deviations, family)


def _verdict(
    experiment: str,
    hypothesis: Hypothesis,
    empty: Verdict,
    scored: Mapping[Pair, _Scored],
    groups: Mapping[Pair, list[Run]],
    deviations: list[str],
    family: Mapping[str, float | None],
) -> Verdict:
    pairs = [_pair(experiment, hypothesis, seed, scored) for seed in sorted(hypothesis.seeds)]
    effect = _effect(experiment, hypothesis, pairs, scored)
    controls = [_control(experiment, hypothesis, name, scored) for name in sorted(hypothesis.controls)]
    interval = statistics.t_interval(effect.differences, 1 - hypothesis.alpha)
    narrow = statistics.t_interval(effect.differences, 1 - 2 * hypothesis.alpha)
    equivalent = statistics.within(narrow, hypothesis.margin)
    others = {slug: p for slug, p in family.items() if slug != experiment}
    p_adjusted = statistics.holm(effect.p, others)
    size = statistics.mean(effect.differences)
    flaws = [*_control_flaws(controls), *_constant_flaw(hypothesis, scored)]
    outcome: Outcome
    if deviations:
        outcome = "deviated"
    elif flaws:
        outcome = "inadmissible"
    else:
        outcome = _outcome(hypothesis, size, interval, p_adjusted, equivalent)
    return msgspec.structs.replace(
        empty,
        outcome=outcome,
        reasons=deviations or flaws,
        effect=size,
        interval=list(interval),
        p=effect.p,
        p_adjusted=p_adjusted,
        family={**empty.family, experiment: effect.p},
        smallest_p=effect.smallest_p,
        test=effect.test,
        narrow_interval=list(narrow),
        equivalent=equivalent,
        units=len(effect.differences),
        means={**effect.means, **{control.name: control.mean for control in controls}},
        pairs=pairs,
        controls=controls,
        replication=_replication(experiment, hypothesis.metric, [groups[pair] for pair in scored]),
        our_scale=scored["treatment", min(hypothesis.seeds)].run.scale,
        uneven_seeds=_uneven(hypothesis, scored, lambda run: run.fallbacks),
        uneven_surroundings=_uneven(hypothesis, scored, _surroundings),
        unlike_cold=sorted(
            one.run.id for one in scored.values() if one.run.cold_check and one.run.cold_check.same is False
        ),
        fallbacks=dict(
            sorted(Counter(arm for arm, seed in scored if scored[arm, seed].run.fallbacks).items())
        ),
    )


def _uneven(
    hypothesis: Hypothesis, scored: Mapping[Pair, _Scored], what: Callable[[Run], object]
) -> list[int]:
    """The seeds whose arms are not alike in something."""
    return [
        seed
        for seed in hypothesis.seeds
        if len({what(scored[arm, seed].run) for arm in hypothesis.arms if (arm, seed) in scored}) > 1
    ]


def _surroundings(run: Run) -> tuple[str | None, ...]:
    """What two runs must have in common for their numbers to be comparable, as far as it was recorded."""
    return tuple(run.environment.get(name) for name in ("python", "distributions", "gpu"))


def _outcome(
    hypothesis: Hypothesis,
    effect: float,
    interval: tuple[float, float],
    p_adjusted: float,
    equivalent: bool,
) -> Outcome:
    """The table of DESIGN, "Limits of a claim"."""
    (low, high), margin = interval, hypothesis.margin
    below = statistics.below
    if hypothesis.kind == "superiority":
        if not below(hypothesis.alpha, p_adjusted) and not below(effect, margin):
            return "supported"
        if below(high, margin):
            return "refuted"
        return "equivalent" if equivalent else "inconclusive"
    if hypothesis.kind == "non-inferiority":
        if below(-margin, low):
            return "supported"
        return "refuted" if below(high, -margin) else "inconclusive"
    if equivalent:
        return "supported"
    return "refuted" if below(margin, low) or below(high, -margin) else "inconclusive"


# which runs count, and what is wrong with them


def _check_seeds(experiment: str, hypothesis: Hypothesis) -> None:
    count = len(hypothesis.seeds)
    if hypothesis.scope == "checkpoints" and count != 1:
        raise JudgeError(
            f'scope "checkpoints" compares one training each, and {count} seeds were sealed',
            fix=f'`claimbook amend {experiment}` with one seed, or with scope = "method"',
            where=experiment,
        )
    if hypothesis.scope == "method" and count < 2:
        raise JudgeError(
            "one seed says nothing of how much a method varies over seeds",
            fix=f'`claimbook amend {experiment}` with more seeds, or with scope = "checkpoints"',
            where=experiment,
        )


def _covered(seal: SealEntry, runs: Iterable[Run]) -> list[Run]:
    """The finished confirmatory runs of this seal, oldest first."""
    return _in_order(
        run
        for run in runs
        if run.status == "finished" and run.kind == "confirmatory" and run.seal == seal.hash
    )


def _in_order(runs: Iterable[Run]) -> list[Run]:
    return sorted(runs, key=lambda run: (run.started, run.id))


def _by_arm_and_seed(covered: Iterable[Run]) -> dict[Pair, list[Run]]:
    """The first of a list counts; the others are replications of it and never add to n."""
    groups: dict[Pair, list[Run]] = defaultdict(list)
    for run in covered:
        groups[run.arm, run.seed].append(run)
    return dict(groups)


def _needed(hypothesis: Hypothesis) -> list[Pair]:
    return [(arm, seed) for arm in sorted(hypothesis.arm_names()) for seed in sorted(hypothesis.seeds)]


def _deviations(seal: SealEntry, run: Run) -> list[str]:
    """What of a run is not as sealed."""
    hypothesis = seal.hypothesis
    if run.arm not in hypothesis.arm_names():
        return [reason("arm", run=run.id, arm=run.arm)]
    if run.seed not in hypothesis.seeds:
        return [reason("seed", run=run.id, seed=str(run.seed))]
    found = []
    actual: dict[str, Value] = {"seed": run.seed, **run.parameters}
    intended = hypothesis.parameters_of(run.arm, run.seed)
    # the declared fallback was sealed with the hypothesis
    intended = hypothesis.fallen_back(intended, run.fallbacks) or intended
    for name, sealed in sorted(intended.items()):
        if name not in actual:
            found.append(reason("unset", run=run.id, name=name, sealed=repr(sealed)))
        elif not _same_value(actual[name], sealed):
            found.append(
                reason("parameter", run=run.id, name=name, found=repr(actual[name]), sealed=repr(sealed))
            )
    notebook, data, code = (run.fingerprints.get(part) for part in ("notebook", "data", "code"))
    parts = seal.differences(
        hypothesis,
        notebook if isinstance(notebook, str) else "",
        code if isinstance(code, dict) else {},
        data if isinstance(data, str) else "",
    )
    return [*found, *(reason("part", run=run.id, part=part) for part in parts)]


def _same_value(one: Value, other: Value) -> bool:
    """Equal, where 6 equals 6.0 but 1 is not true."""
    return one == other and isinstance(one, bool) == isinstance(other, bool)


def _missing_error(
    experiment: str, seal: SealEntry, runs: Sequence[Run], missing: Sequence[Pair]
) -> JudgeError:
    seen = ", ".join(f"{arm} seed {seed} ({_seen(seal, runs, arm, seed)})" for arm, seed in missing)
    return JudgeError(
        f"{len(missing)} of {len(_needed(seal.hypothesis))} sealed runs have no result: {seen}",
        fix=f"claimbook run {experiment}",
        where=experiment,
    )


def _seen(seal: SealEntry, runs: Sequence[Run], arm: str, seed: int) -> str:
    """What became of an arm and seed without a result."""
    tried = sorted(
        (run for run in runs if (run.arm, run.seed) == (arm, seed)), key=lambda run: (run.started, run.id)
    )
    if not tried:
        return "never run"
    sealed = [run for run in tried if run.kind == "confirmatory" and run.seal == seal.hash]
    if sealed:
        return sealed[-1].status
    kinds = {run.kind for run in tried}
    return "under another seal" if "confirmatory" in kinds else f"{tried[-1].kind} only"


# scores from the raw items


def _score(experiment: str, run: Run, metric: str, items: Callable[[Run], ItemScores]) -> _Scored:
    """A run's score from its items, which must be the metric that it recorded."""
    scores = items(run)
    recorded = _recorded(experiment, run, metric)
    if metric not in scores.scores:
        raise JudgeError(
            f"run {run.id} has no item scores of {metric}; it has {', '.join(scores.scores) or 'none'}",
            fix=f"give run.finish(items=…) a column {metric!r} and run again",
            where=experiment,
        )
    score = scores.mean(metric)
    if not agree(recorded, score):
        raise JudgeError(
            f"run {run.id} recorded {metric} = {recorded!r}, and the mean of its items is {score!r}",
            fix="let the notebook report the mean of the item scores that it saves, and run again",
            where=experiment,
        )
    return _Scored(run, scores, score)


def _recorded(experiment: str, run: Run, metric: str) -> float:
    if metric not in run.metrics:
        raise JudgeError(
            f"run {run.id} recorded no {metric}; it recorded {', '.join(sorted(run.metrics)) or 'nothing'}",
            fix=f"give run.finish(metrics=…) {metric!r}, and run again",
            where=experiment,
        )
    return run.metrics[metric]


def _pair(
    experiment: str, hypothesis: Hypothesis, seed: int, scored: Mapping[Pair, _Scored]
) -> SeedDifference:
    baseline, treatment = scored["baseline", seed], scored["treatment", seed]
    _check_same_items(experiment, seed, baseline, treatment)
    return SeedDifference(
        seed=seed,
        baseline=baseline.score,
        treatment=treatment.score,
        difference=_gain(hypothesis, baseline.score, treatment.score),
        runs=[baseline.run.id, treatment.run.id],
    )


def _check_same_items(experiment: str, seed: int, baseline: _Scored, treatment: _Scored) -> None:
    """Raise JudgeError unless both arms were scored on the same items in the same clusters."""
    one, other = ({*zip(arm.items.item, arm.items.cluster, strict=True)} for arm in (baseline, treatment))
    if one == other:
        return
    different = sorted({item for item, _ in one ^ other})
    shown = ", ".join(different[:5]) + (", …" if len(different) > 5 else "")
    raise JudgeError(
        f"the arms of seed {seed} (runs {baseline.run.id}, {treatment.run.id}) differ in "
        f"{len(different)} test items or their clusters: {shown}",
        fix="score both arms on the same test items, and run this seed again",
        where=experiment,
    )


def cluster_means(items: ItemScores, metric: str) -> dict[str, float]:
    """The mean score of every cluster, by cluster."""
    clusters: dict[str, list[float]] = defaultdict(list)
    for cluster, score in zip(items.cluster, items.scores[metric].tolist(), strict=True):
        clusters[cluster].append(score)
    return {cluster: statistics.mean(clusters[cluster]) for cluster in sorted(clusters)}


# effect and controls


def _effect(
    experiment: str,
    hypothesis: Hypothesis,
    pairs: Sequence[SeedDifference],
    scored: Mapping[Pair, _Scored],
) -> _Effect:
    if hypothesis.scope == "checkpoints":
        return _effect_over_clusters(experiment, hypothesis, scored)
    differences = [pair.difference for pair in pairs]
    return _Effect(
        differences,
        p=statistics.sign_flip_p(differences),
        test="sign-flip",
        smallest_p=statistics.smallest_sign_flip_p(len(differences)),
        means={
            "baseline": statistics.mean([pair.baseline for pair in pairs]),
            "treatment": statistics.mean([pair.treatment for pair in pairs]),
        },
    )


def _effect_over_clusters(experiment: str, hypothesis: Hypothesis, scored: Mapping[Pair, _Scored]) -> _Effect:
    """Paired clusters of the one seed; McNemar's test where each is a single item, hit or missed."""
    (seed,) = hypothesis.seeds
    arms = {arm: scored[arm, seed] for arm in ("baseline", "treatment")}
    means = {arm: list(cluster_means(arms[arm].items, hypothesis.metric).values()) for arm in arms}
    baseline, treatment = means["baseline"], means["treatment"]
    if len(baseline) < 2:
        raise JudgeError(
            "all test items belong to one cluster, so nothing shows how much the scores vary",
            fix="give run.finish(items=…) the product or query of each item as its cluster",
            where=experiment,
        )
    differences = [_gain(hypothesis, b, t) for b, t in zip(baseline, treatment, strict=True)]
    single = len(baseline) == len(arms["baseline"].items.item)
    binary = single and {*baseline, *treatment} <= {0.0, 1.0}
    smallest = statistics.smallest_mcnemar_p if binary else statistics.smallest_sign_flip_p
    return _Effect(
        differences,
        p=statistics.mcnemar_p(baseline, treatment) if binary else statistics.sign_flip_p(differences),
        test="mcnemar" if binary else "permutation",
        smallest_p=smallest(len(differences)),
        means={arm: statistics.mean(values) for arm, values in means.items()},
    )


def _gain(hypothesis: Hypothesis, baseline: float, treatment: float) -> float:
    """treatment − baseline in the better direction: positive favours the treatment."""
    return treatment - baseline if hypothesis.direction == "higher" else baseline - treatment


def _control(
    experiment: str, hypothesis: Hypothesis, name: str, scored: Mapping[Pair, _Scored]
) -> ControlCheck:
    """Whether a control is shown to score chance: two one-sided tests against ± its tolerance.

    A chance level that differs between runs, say with the size of the test set, is taken from each score
    of its own run; the record keeps its mean.
    """
    metric = hypothesis.metric
    runs = [scored[name, seed] for seed in sorted(hypothesis.seeds)]
    chances = [_chance(experiment, one.run, metric) for one in runs]
    if hypothesis.scope == "checkpoints":
        scores = list(cluster_means(runs[0].items, metric).values())
        excess = [score - chances[0] for score in scores]
    else:
        scores = [one.score for one in runs]
        excess = [score - chance for score, chance in zip(scores, chances, strict=True)]
    if len(excess) < 2:
        raise JudgeError(
            f"control {name} has one cluster, so nothing shows how much its scores vary",
            fix="give run.finish(items=…) the product or query of each item as its cluster",
            where=experiment,
        )
    interval = statistics.t_interval(excess, 1 - 2 * hypothesis.alpha)
    return ControlCheck(
        name=name,
        mean=statistics.mean(scores),
        chance=statistics.mean(chances),
        interval=list(interval),
        tolerance=hypothesis.control_tolerance,
        passed=statistics.within(interval, hypothesis.control_tolerance),
    )


def _chance(experiment: str, run: Run, metric: str) -> float:
    if metric not in run.chance:
        raise JudgeError(
            f"run {run.id} of control {run.arm} says no chance level of {metric}",
            fix=f"give run.finish(chance={{{metric!r}: …}}) what guessing scores, and run again",
            where=experiment,
        )
    return run.chance[metric]


def _control_flaws(controls: Iterable[ControlCheck]) -> list[str]:
    return [
        reason(
            "control",
            name=control.name,
            mean=f"{control.mean:.4g}",
            chance=f"{control.chance:.4g}",
            interval=f"[{control.interval[0]:+.4g}, {control.interval[1]:+.4g}]".replace("-", "−"),
            tolerance=f"{control.tolerance:g}",
        )
        for control in controls
        if not control.passed
    ]


def _constant_flaw(hypothesis: Hypothesis, scored: Mapping[Pair, _Scored]) -> list[str]:
    """Seeds that change no score of any item are one measurement, repeated: no evidence about a method."""
    if hypothesis.scope == "checkpoints":
        return []
    for arm in ("baseline", "treatment"):
        by_item = [
            dict(zip(one.items.item, one.items.scores[hypothesis.metric].tolist(), strict=True))
            for one in (scored[arm, seed] for seed in sorted(hypothesis.seeds))
        ]
        if any(scores != by_item[0] for scores in by_item[1:]):
            return []
    return [reason("constant", count=str(len(hypothesis.seeds)))]


def _replication(experiment: str, metric: str, groups: Iterable[list[Run]]) -> float | None:
    """The largest difference between two runs of one arm and seed; None when nothing was run twice."""
    spreads = []
    for runs in groups:
        if len(runs) > 1:
            values = [_recorded(experiment, run, metric) for run in runs]
            spreads.append(max(values) - min(values))
    return max(spreads, default=None)


def _empty_verdict(
    experiment: str, seal: SealEntry, family: Mapping[str, float | None], paper_scale: Scale | None
) -> Verdict:
    """A verdict with what the seal says and no numbers yet."""
    hypothesis = seal.hypothesis
    return Verdict(
        experiment=experiment,
        outcome="deviated",
        reasons=[],
        seal=seal.hash,
        kind=hypothesis.kind,
        scope=hypothesis.scope,
        metric=hypothesis.metric,
        direction=hypothesis.direction,
        margin=hypothesis.margin,
        alpha=hypothesis.alpha,
        effect=None,
        interval=None,
        p=None,
        p_adjusted=None,
        family=dict(sorted({**family, experiment: None}.items())),
        smallest_p=None,
        equivalent=False,
        units=0,
        means={},
        pairs=[],
        controls=[],
        replication=None,
        data=seal.data,
        data_description=seal.data_description,
        our_scale=None,
        paper_scale=paper_scale,
    )
