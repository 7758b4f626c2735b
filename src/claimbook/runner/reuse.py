"""Whether a run can stand for one that would be made now, and if not, why.

A finished run is reused while its seal, its parameters, its notebook's code, the code that this imports and
its product set are those of now; versions, hardware and git state hinder nothing. Knows nothing of how runs
are made.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

import msgspec

from claimbook.experiments import Experiment
from claimbook.records import Run
from claimbook.records.experiment import Value
from claimbook.records.run import Status
from claimbook.runner.annotations import shown
from claimbook.runner.state import State, current_state
from claimbook.session import completed
from claimbook.workspace import Workspace

Fingerprints = dict[str, str | dict[str, str]]
"""Of notebook, code and data, as a run records them."""


@dataclass(frozen=True)
class Coverage:
    """Whether runs made of a state would count."""

    seal: str | None
    """Hash of the seal that covers them; None for exploratory ones."""
    why_exploratory: list[str]
    """Why no seal does, a phrase each."""


def coverage(experiment: Experiment, state: State, changes: Collection[str] = ()) -> Coverage:
    """Compare a state with the seal in force; changes: names of parameters that are set for these runs only.

    Raises RecordError when seal.json was edited.
    """
    seal = experiment.seal()
    why = ["not sealed"] if seal is None else state.differences(seal.current)
    if changes:
        why.append(f"parameters changed for this run ({', '.join(changes)})")
    registered = state.hypothesis.seeds
    unregistered = [seed for seed in dict.fromkeys(s for _, s in state.parameters) if seed not in registered]
    if unregistered:
        why.append(f"seeds that are not registered ({', '.join(map(str, unregistered))})")
    return Coverage(None if why or seal is None else seal.current.hash, why)


def as_said(experiment: Experiment, run: Run, states: Collection[Fingerprints]) -> Run:
    """A lost run as finished, if its notebook had said its result before its supervisor died.

    So the next batch records it; any other run is as it is. The result counts while the state is one of
    `states`: nobody looked whether the code changed under it. Raises RecordError when the run's metrics or
    the ledger cannot be read.
    """
    if run.status != "lost" or run.fingerprints not in states:
        return run
    _, finish = experiment.steps(run.id)
    if finish is None or run.id in experiment.ledger().ended():
        return run
    return completed(run, finish, None)


def reusable(run: Run, state: State, seal: str | None, rerun: str | None = None) -> list[str]:
    """What hinders that a run stands for one made of this state, a phrase each; empty when nothing does.

    seal: hash of the seal that would cover the new run; rerun: id of the rerun that it would belong to.
    """
    hinders = [] if run.status == "finished" else [_how_it_ended(run)]
    if (run.seal, run.rerun) != (seal, rerun):
        hinders.append(_whose(run, seal, rerun))
    planned = planned_parameters(run, state)
    if planned is None:
        fallen = (run.arm, run.seed) in state.parameters
        hinders.append(
            "the fallback that it took is not declared"
            if fallen
            else f"no run of {run.arm} with seed {run.seed} is planned"
        )
    elif run.parameters != planned:
        changed = (f"{one.what} {one.text}" for one in differing(run.parameters, planned))
        hinders.append(f"other parameters ({', '.join(changed)})")
    return hinders + [
        f"{_PARTS[part]} {'changed' if part in run.fingerprints else 'not recorded'}"
        for part, now in state.fingerprints.items()
        if run.fingerprints.get(part) != now
    ]


def planned_parameters(run: Run, state: State) -> dict[str, Value] | None:
    """The parameters of a state for a run's arm and seed, with as many fallbacks as the run took.

    None where none are planned.
    """
    planned = state.parameters.get((run.arm, run.seed))
    if planned is None or not run.fallbacks:
        return planned
    return state.hypothesis.fallen_back(planned, run.fallbacks)


_PARTS = {"notebook": "notebook code", "code": "technique code", "data": "product set"}


class Change(msgspec.Struct, frozen=True):
    """One thing that is not what it was."""

    what: str
    was: Value | None
    """None where it was not there."""
    now: Value | None
    """None where it is there no more."""

    @property
    def text(self) -> str:
        """Both values, to be read."""
        return " → ".join("none" if one is None else shown(one) for one in (self.was, self.now))


def differing(was: Mapping[str, Value], now: Mapping[str, Value]) -> Iterator[Change]:
    """What differs between two tables, by name."""
    for name in [*was, *(name for name in now if name not in was)]:
        if was.get(name) != now.get(name):
            yield Change(name, was.get(name), now.get(name))


def _how_it_ended(run: Run) -> str:
    ended = _ENDED[run.status]
    if run.failure is None:
        return ended
    cell = "" if run.failure.cell is None else f" in cell {run.failure.cell}"
    return f"{ended}{cell}: {run.failure.error}: {run.failure.message.partition(chr(10))[0]}"


_ENDED: dict[Status, str] = {
    "running": "it is under way",
    "failed": "it failed",
    "timed-out": "it timed out",
    "out-of-memory": "it ran out of memory",
    "cancelled": "it was cancelled",
    "lost": "it was lost: its supervisor or its machine died",
}


def _whose(run: Run, seal: str | None, rerun: str | None) -> str:
    """Why a run's seal and rerun are not those of a run made now."""
    if run.rerun != rerun:
        return f"it replicates for {run.rerun}" if run.rerun else f"it is no replication for {rerun}"
    if run.seal is None:
        return f"no seal covers it: {', '.join(run.why_exploratory) or 'it is exploratory'}"
    if seal is None:
        return f"it counts for seal {run.seal[:12]}, and a run made now would be exploratory"
    return f"it counts for seal {run.seal[:12]}, and {seal[:12]} is in force"


class Prospect(msgspec.Struct, frozen=True):
    """An arm and a seed of a hypothesis: the run that stands for it, or why one would be made."""

    arm: str
    seed: int
    reused: bool
    run: str | None
    """The run that is reused, else the one that comes nearest; None where there is none."""
    hinders: list[str]
    """Why that one is not reused."""


class Outlook(msgspec.Struct, frozen=True):
    """What `claimbook run` would reuse and make now."""

    experiment: str
    seal: str | None
    """Hash of the seal that covers the runs."""
    why_exploratory: list[str]
    prospects: list[Prospect]
    """Seed by seed, as they would be made."""


def outlook(workspace: Workspace, experiment: Experiment) -> Outlook:
    """Look at each arm and seed of a hypothesis. Raises what `current_state` raises."""
    state = current_state(workspace, experiment)
    covered = coverage(experiment, state)
    runs = [as_said(experiment, run, [state.fingerprints]) for run in experiment.runs()]
    seeds = dict.fromkeys(seed for _, seed in state.parameters)
    return Outlook(
        experiment.slug,
        covered.seal,
        covered.why_exploratory,
        [
            _prospect(arm, seed, runs, state, covered.seal)
            for seed in seeds
            for arm in state.hypothesis.arm_names()
        ],
    )


def _prospect(arm: str, seed: int, runs: list[Run], state: State, seal: str | None) -> Prospect:
    """The first run that can be reused; of the others the newest of those that the least hinders."""
    found = [(reusable(run, state, seal), run) for run in runs if (run.arm, run.seed) == (arm, seed)]
    free = next((run for hinders, run in found if not hinders), None)
    if free is not None:
        return Prospect(arm, seed, True, free.id, [])
    if not found:
        return Prospect(arm, seed, False, None, ["never run"])
    hinders, nearest = min(reversed(found), key=lambda pair: len(pair[0]))
    return Prospect(arm, seed, False, nearest.id, hinders)
