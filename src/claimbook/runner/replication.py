"""Sealed experiments made again under today's code and environment: which verdicts hold.

A replication never adds to n. It is judged by itself, with the rules and the family of the verdict that it
repeats, so that nothing but code, data and environment can have changed the outcome.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from claimbook.errors import ClaimbookError, JudgeError
from claimbook.experiments import Experiment
from claimbook.judge import judge_rerun, largest_difference
from claimbook.products.named import fingerprint_of, named_in
from claimbook.records import Failure, Rerun, Run, SealEntry, Verdict
from claimbook.records.batch import Line
from claimbook.records.rerun import Result
from claimbook.runner.batch import Conclusion, Plan, execute
from claimbook.runner.engine import Engine
from claimbook.runner.fingerprints import code_fingerprints, notebook_fingerprint
from claimbook.runner.state import State, current_state
from claimbook.session import new_run_id, now
from claimbook.surroundings import distributions, redacted
from claimbook.workspace import Workspace


@dataclass(frozen=True)
class Prepared:
    """A rerun before its runs."""

    experiment: Experiment
    sealed: SealEntry
    verdict: Verdict
    """The verdict to replicate."""
    began: str
    plan: Plan | None
    """None when the sealed design cannot even be started."""
    failure: Failure | None
    """Why it cannot."""
    changed: list[str]
    """What is not as sealed, a phrase each."""


def replicable(experiment: Experiment) -> bool:
    """Whether there is a verdict of the seal in force that can be replicated."""
    seal, verdict = experiment.seal(), experiment.verdict()
    in_force = seal is not None and verdict is not None and verdict.seal == seal.current.hash
    return in_force and verdict is not None and verdict.outcome != "deviated"


def prepare(workspace: Workspace, experiment: Experiment) -> Prepared:
    """Look at what a rerun would make; an interrupted one is continued, if nothing has changed since.

    Raises JudgeError when there is no verdict of the seal in force.
    """
    seal, verdict = experiment.seal(), experiment.verdict()
    if seal is None or verdict is None or verdict.seal != seal.current.hash:
        raise JudgeError(
            "there is no verdict of the seal in force to replicate",
            fix=f"`claimbook run {experiment.slug}`, then `claimbook judge {experiment.slug}`",
            where=f"experiments/{experiment.slug}",
        )
    if verdict.outcome == "deviated":
        raise JudgeError(
            "a deviated verdict has nothing to replicate: its runs are not what was sealed",
            fix=f'`claimbook amend {experiment.slug} --reason "…"`, then run and judge',
            where=f"experiments/{experiment.slug}",
        )
    sealed, began = seal.current, now()
    try:
        state = current_state(workspace, experiment, sealed=sealed.hypothesis)
    except ClaimbookError as error:
        failure = Failure(error=type(error).__name__, message=redacted(str(error)))
        changed = _changed_parts(workspace, sealed)
        return Prepared(experiment, sealed, verdict, began, None, failure, changed)
    plan = _plan(experiment, sealed, state)
    return Prepared(experiment, sealed, verdict, began, plan, None, state.differences(sealed))


def replicate(
    workspace: Workspace,
    prepared: Sequence[Prepared],
    *,
    engine: Engine,
    report: Callable[[Line], None],
    name: str = "rerun",
    verify_cold: int | None = None,
    left_out: Mapping[str, str] = MappingProxyType({}),
) -> list[Rerun]:
    """Make the replications of all prepared reruns, and say of each verdict whether it held.

    Each is recorded as reruns/<id>.json. Interrupted, nothing is recorded but the runs that had finished.
    Raises what `execute` raises.
    """
    reruns: list[Rerun] = []

    def conclude(made: list[Run]) -> Conclusion:
        for one in prepared:
            runs = [run for run in made if run.experiment == one.experiment.slug]
            if one.plan is None or len(runs) == len(one.plan.missing):  # else the next one goes on with it
                reruns.append(_conclude(one, runs))
        return Conclusion({rerun.experiment: rerun.result for rerun in reruns})

    plans = [one.plan for one in prepared if one.plan is not None]
    execute(
        workspace,
        plans,
        engine=engine,
        report=report,
        name=name,
        verify_cold=verify_cold,
        left_out=left_out,
        conclude=conclude,
    )
    return reruns


def _plan(experiment: Experiment, sealed: SealEntry, state: State) -> Plan:
    concluded = {rerun.id for rerun in experiment.reruns()}
    open_runs = [
        run
        for run in experiment.runs()
        if run.rerun is not None and run.rerun not in concluded and run.seal == sealed.hash
    ]
    rerun_id = open_runs[-1].rerun if open_runs and _same(open_runs, state) else None
    done = {
        (run.arm, run.seed): run for run in open_runs if run.rerun == rerun_id and run.status == "finished"
    }
    return Plan(
        experiment=experiment,
        state=state,
        why_exploratory=[],
        seal=sealed.hash,
        reused=list(done.values()),
        missing=[pair for pair in state.parameters if pair not in done],
        rerun=rerun_id or new_run_id("rerun"),
    )


def _changed_parts(workspace: Workspace, sealed: SealEntry) -> list[str]:
    """What of a state that cannot be started is not as sealed, as far as that can be told part by part."""
    hypothesis = sealed.hypothesis
    notebook, code, data = sealed.notebook, sealed.code, sealed.data
    lost = []
    try:
        path = workspace.notebook(hypothesis.notebook)
        notebook = notebook_fingerprint(path)
        code = code_fingerprints(path, workspace)
    except ClaimbookError:
        lost.append("notebook (it cannot be read)")
    named = [hypothesis.parameters_of(arm, hypothesis.seeds[0]) for arm in hypothesis.arm_names()]
    if named_in(named):  # else only a default of the notebook names it
        try:
            data, _ = fingerprint_of(named, workspace)
        except ClaimbookError:
            lost.append("product set (it cannot be loaded)")
    return [*sealed.differences(hypothesis, notebook, code, data), *lost]


def _same(runs: list[Run], state: State) -> bool:
    """Whether the runs of an interrupted rerun were made under what there is now."""
    installed = distributions()["distributions"]
    return all(
        run.fingerprints == state.fingerprints and run.environment.get("distributions") == installed
        for run in runs
        if run.rerun == runs[-1].rerun
    )


def _conclude(one: Prepared, made: list[Run]) -> Rerun:
    runs = [*one.plan.reused, *made] if one.plan else []
    failure, verdict = one.failure, None
    unfinished = [run for run in runs if run.status != "finished"]
    if unfinished:
        first = unfinished[0]
        cause = first.failure or Failure(error=first.status, message="no reason recorded")
        failure = Failure(error=cause.error, message=f"{first.id}: {cause.message}", cell=cause.cell)
    elif one.plan is not None:
        try:
            verdict = _judged(one, one.plan)
        except ClaimbookError as error:
            failure = Failure(error=type(error).__name__, message=str(error))
    rerun_id = one.plan.rerun if one.plan and one.plan.rerun else new_run_id("rerun")
    difference, where = largest_difference(one.sealed, one.experiment.runs(), rerun_id)
    rerun = Rerun(
        id=rerun_id,
        experiment=one.experiment.slug,
        seal=one.sealed.hash,
        began=one.began,
        ended=now(),
        result=_result(one.verdict, verdict),
        was=one.verdict.outcome,
        now=verdict.outcome if verdict else None,
        largest_difference=difference,
        largest_where=where,
        changed=_changes(one, runs),
        verdict=verdict,
        ledger=one.experiment.ledger().heads,
        failure=failure,
    )
    one.experiment.save_rerun(rerun)
    return rerun


def _judged(one: Prepared, plan: Plan) -> Verdict:
    assert plan.rerun is not None
    known = {name: p for name, p in one.verdict.family.items() if name != one.experiment.slug}
    return judge_rerun(
        one.experiment.slug,
        one.sealed,
        one.experiment.runs(),
        one.experiment.items,
        rerun=plan.rerun,
        family=known,
    )


def _result(was: Verdict, verdict: Verdict | None) -> Result:
    if verdict is None:
        return "no longer runs"
    return "held" if verdict.outcome == was.outcome else "flipped"


def _first_runs(one: Prepared) -> dict[tuple[str, int], Run]:
    """The runs that the verdict rests on."""
    first: dict[tuple[str, int], Run] = {}
    for run in one.experiment.runs():
        if run.kind == "confirmatory" and run.seal == one.sealed.hash and run.status == "finished":
            first.setdefault((run.arm, run.seed), run)
    return first


def _changes(one: Prepared, runs: list[Run]) -> list[str]:
    """What differs from the sealed state, and from the environment of the first runs."""
    changed = one.changed
    first = next(iter(_first_runs(one).values()), None)
    finished = next((run for run in runs if run.status == "finished"), None)
    if first is None:
        return changed
    before, after = first.environment, finished.environment if finished else distributions()
    named = [
        f"{name} {value} → {after.get(name, 'none')}"
        for name, value in before.items()
        # what only a kernel knows is not known of runs that never came to their end
        if value != after.get(name) and (name in after or finished)
    ]
    return changed + named
