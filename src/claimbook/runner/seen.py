"""Which seeds of a design have been looked at already: whoever knows their results can choose among them.

A run is repeatable by its seed, so a seed that was run is a seed that was seen, in whichever experiment, by
hand or in a run put away since. Holm's correction pays for another look at all of the seeds; it cannot
pay for a choice of eight out of forty.
"""

from __future__ import annotations

from collections.abc import Iterator

from claimbook.errors import ClaimbookError
from claimbook.experiments import BY_HAND, Experiment
from claimbook.index import Index
from claimbook.judge import Finding
from claimbook.records import Run
from claimbook.runner.state import State
from claimbook.workspace import Workspace

_COMPARED = ("baseline", "treatment")
_RULE = ("metric", "direction", "kind", "margin", "control_margin", "alpha", "scope")
"""What turns results into an outcome."""


def seen_before(workspace: Workspace, experiment: Experiment, state: State) -> list[Finding]:
    """What stands against the seeds of a design, a finding each; empty when nothing does."""
    own = [*experiment.runs(), *experiment.deleted_runs()]
    others = list(_elsewhere(workspace, experiment, state))
    fresh = 1 + max([*state.hypothesis.seeds, *(run.seed for run in (*own, *others))])
    unseen = f"such as {fresh} to {fresh + len(state.hypothesis.seeds) - 1}"
    return [
        *_unsealed(own + others, state, unseen),
        *_chosen(own, others, state, unseen),
        *_moved(experiment, own, state, unseen),
    ]


def _unsealed(runs: list[Run], state: State, unseen: str) -> Iterator[Finding]:
    """Registered seeds that were run unsealed: sealing them now would fix what is known."""
    seen = {run.seed for run in runs if run.kind == "exploratory" and _is_of(run, state)}
    if seen := seen & set(state.hypothesis.seeds):
        yield Finding(
            f"seeds {_list(seen)} were run with these parameters before the seal",
            f"register seeds that nobody has seen, {unseen}, and make pilots with `--seeds`",
        )


def _chosen(own: list[Run], others: list[Run], state: State, unseen: str) -> Iterator[Finding]:
    """Seeds that were run under an earlier seal and are kept in part."""
    looks = {"": {run.seed for run in own if run.kind == "confirmatory" and _counts(run)}}
    for run in others:
        if run.kind == "confirmatory":
            looks.setdefault(run.experiment, set()).add(run.seed)
    registered = set(state.hypothesis.seeds)
    for slug, seen in looks.items():
        kept, left_out = seen & registered, seen - registered
        if kept and left_out:
            where = f" of {slug}" if slug else ""
            yield Finding(
                f"of the seeds{where} whose results are known, {_list(kept)} are kept "
                f"and {_list(left_out)} left out",
                f"keep all of them and add new ones, or register only seeds that nobody has seen, {unseen}",
            )


def _moved(experiment: Experiment, own: list[Run], state: State, unseen: str) -> Iterator[Finding]:
    """A rule of decision that is changed for seeds whose results are known under an earlier seal."""
    seal = experiment.seal()
    for entry in seal.entries if seal else []:
        seen = {run.seed for run in own if run.seal == entry.hash and _counts(run)}
        kept = seen & set(state.hypothesis.seeds)
        now, then = state.hypothesis, entry.hypothesis
        changed = [name for name in _RULE if getattr(now, name) != getattr(then, name)]
        if kept and changed:
            yield Finding(
                f"{', '.join(changed)} would be changed for seeds whose results are known: {_list(kept)}",
                f"leave the rule as it was, or register seeds that nobody has seen, {unseen}",
            )


def _elsewhere(workspace: Workspace, experiment: Experiment, state: State) -> Iterator[Run]:
    """Finished runs of other experiments, and by hand, that this design would make with some seed."""
    with Index.open(workspace) as index:
        notebook = state.hypothesis.notebook
        # a run by hand may not know its notebook's name
        page = index.runs(
            f'status = finished and notebook in ("{notebook}", unknown)', limit=None, deleted=True
        )
    for row in page.rows:
        if row["experiment"] == experiment.slug or row["kind"] == "replication":
            continue
        one = Experiment(workspace.experiments / row["experiment"])
        try:
            run = one.run(row["id"])
        except ClaimbookError:  # named where it is read for itself
            continue
        if _is_of(run, state):
            yield run


def _is_of(run: Run, state: State) -> bool:
    """Whether a finished run was made with the parameters of one of the design's arms, the seed aside."""
    if not _counts(run) or run.fingerprints.get("data", state.data) != state.data:
        return False
    if run.experiment != BY_HAND and run.fingerprints.get("notebook") != state.notebook:
        return False
    designs = ({**parameters, "seed": run.seed} for parameters in state.parameters.values())
    return any(state.hypothesis.fallen_back(one, run.fallbacks) == run.parameters for one in designs)


def _counts(run: Run) -> bool:
    return run.status == "finished" and (run.arm in _COMPARED or run.experiment == BY_HAND)


def _list(seeds: set[int]) -> str:
    return ", ".join(map(str, sorted(seeds)))
