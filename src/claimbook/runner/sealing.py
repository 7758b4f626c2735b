"""Before the first run that counts: check a design, seal it, amend a seal."""

from __future__ import annotations

from dataclasses import dataclass, replace

import msgspec

from claimbook import papers
from claimbook.errors import SealError
from claimbook.experiments import Experiment
from claimbook.judge import Design, Finding, assess_design
from claimbook.judge.of_experiment import family
from claimbook.records import SealEntry
from claimbook.runner.amendment import differences_in_full
from claimbook.runner.pilot import Clusters, Pilot, latest_pilot, test_clusters
from claimbook.runner.seen import seen_before
from claimbook.runner.state import State, current_state
from claimbook.session import now
from claimbook.surroundings import git_state
from claimbook.workspace import Workspace


@dataclass(frozen=True)
class Check:
    """What a seal would fix, and what it could decide."""

    state: State
    design: Design
    pilot: Pilot
    """The exploratory pairs from which the smallest detectable effect is computed."""
    clusters: Clusters
    """How the test items hang together."""
    family: list[str]
    """Other experiments sealed on the same product set and metric."""
    changed: list[str] | None
    """What differs from the seal in force, a phrase each; None when nothing is sealed."""


def check(workspace: Workspace, experiment: Experiment, *, amending: bool = False) -> Check:
    """Everything that sealing, or amending, looks at, without doing it.

    A state that differs from the sealed one is checked as its amendment would be.
    Raises RecordError when the paper has no such claim, and what `current_state` raises; problems of the
    design itself are in the result.
    """
    state = current_state(workspace, experiment)
    papers.load(workspace, state.hypothesis.paper).claim(state.hypothesis.claim)
    runs = [*experiment.runs(), *experiment.deleted_runs()]  # to put a run away does not unsee it
    metric = state.hypothesis.metric
    sealed = experiment.seal()
    changed = state.differences(sealed.current) if sealed else []
    amending = amending or bool(changed)
    others = [one.name for one in family(workspace, experiment, state.data, metric, amending=amending)]
    pilot = latest_pilot(experiment, runs, state)
    design = assess_design(state.hypothesis, pilot.differences or None, len(others) + 1)
    clusters = test_clusters(workspace, state)
    problems, warnings = _cluster_findings(state, pilot, clusters)
    design = replace(
        design,
        problems=(
            *design.problems,
            *_same_arms(state),
            *seen_before(workspace, experiment, state),
            *problems,
        ),
        warnings=(*design.warnings, *warnings),
    )
    return Check(state, design, pilot, clusters, others, changed if sealed else None)


def seal(workspace: Workspace, experiment: Experiment) -> SealEntry:
    """Fix hypothesis, notebook, technique code and product set. Sealing the same state again changes nothing.

    Raises SealError when the design cannot be decided, or when another state is sealed already.
    """
    with workspace.lock(experiment.slug):
        return _seal(workspace, experiment)


def _seal(workspace: Workspace, experiment: Experiment) -> SealEntry:
    earlier = experiment.seal()
    checked = check(workspace, experiment)
    if earlier is not None:
        changed = checked.state.differences(earlier.current)
        if not changed:
            if earlier.current.with_ledger:  # else it was made by the first version
                experiment.complete_seal(earlier.current, checked.state.sources)
            return earlier.current
        raise SealError(
            f"another state is sealed already; changed since: {', '.join(changed)}",
            fix=f'undo the change, or run `claimbook amend {experiment.slug} --reason "…"`: '
            "runs made before an amendment never count for it",
            where=experiment.seal_path.relative_to(workspace.root),
        )
    return _append(workspace, experiment, checked, None, None)


def amend(workspace: Workspace, experiment: Experiment, reason: str) -> tuple[SealEntry, list[str]]:
    """Seal the state as it is now and say which parts changed; the earlier seals are kept.

    The new entry holds the reason and a unified diff of hypothesis, notebook, technique code and product set.
    Runs made under an earlier seal never count for the new one, also when nothing changed: that is for
    records that are lost. Raises SealError without a reason, when nothing was sealed, or when the design
    cannot be decided.
    """
    with workspace.lock(experiment.slug):
        return _amend(workspace, experiment, reason)


def _amend(workspace: Workspace, experiment: Experiment, reason: str) -> tuple[SealEntry, list[str]]:
    earlier = experiment.seal()
    if earlier is None:
        raise SealError("nothing is sealed yet", fix=f"run `claimbook seal {experiment.slug}`")
    if not reason.strip():
        raise SealError("an amendment needs a reason", fix='say why: --reason "…"')
    checked = check(workspace, experiment, amending=True)
    changed = checked.state.differences(earlier.current)
    return _append(workspace, experiment, checked, earlier.current, reason.strip()), changed


def _append(
    workspace: Workspace,
    experiment: Experiment,
    checked: Check,
    earlier: SealEntry | None,
    reason: str | None,
) -> SealEntry:
    checked.design.refuse()
    state, git = checked.state, git_state(workspace.root)
    commit = git["commit"]
    entry = SealEntry(
        hash="",
        sealed_at=now(),
        hypothesis=state.hypothesis,
        notebook=state.notebook,
        code=state.code,
        data=state.data,
        data_description=state.data_description,
        git=f"{commit}{'+dirty' if git['diff'] else ''}" if commit else None,
        previous=earlier.hash if earlier else None,
        reason=reason,
        changes=differences_in_full(experiment, earlier, state) if earlier else None,
        with_ledger=True,
    )
    entry = msgspec.structs.replace(entry, hash=entry.digest)
    experiment.add_seal(entry, state.sources)
    return entry


def _same_arms(state: State) -> list[Finding]:
    """Arms that differ in what they write and not in what the notebook gets: a default written out."""
    seed = state.hypothesis.seeds[0]
    treatment = state.parameters["treatment", seed]
    return [
        Finding(
            f"{name} gives the notebook the same parameters as the treatment",
            "let it differ in a value, not only from an omitted default",
        )
        for name in ("baseline", *state.hypothesis.controls)
        if state.parameters[name, seed] == treatment
    ]


def _cluster_findings(state: State, pilot: Pilot, clusters: Clusters) -> tuple[list[Finding], list[Finding]]:
    """Items that share a product are not independent: problems and warnings where they are scored as if."""
    if pilot.items is None or pilot.clusters is None:
        return [], []
    if pilot.clusters < pilot.items or clusters.products == clusters.pictures:
        return [], []
    found = Finding(
        f"the pilot scored {pilot.items:,} items, each in a cluster of its own, and the test split has "
        f"{clusters.pictures:,} pictures of {clusters.products:,} products: taken as independent, they find "
        "differences that are not there",
        "give run.finish(items=…) the product or query of each item as its cluster",
    )
    # a claim about a method compares means over seeds, and no test of it counts items
    return ([found], []) if state.hypothesis.scope == "checkpoints" else ([], [found])
