"""Before the first run that counts: check a design, seal it, amend a seal."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from claimbook import papers
from claimbook.errors import SealError
from claimbook.experiments import Experiment
from claimbook.judge import Design, assess_design
from claimbook.judge.of_experiment import family
from claimbook.records import Run, Seal, SealEntry
from claimbook.runner.state import State, current_state
from claimbook.session import now
from claimbook.surroundings import git_state
from claimbook.workspace import Workspace


@dataclass(frozen=True)
class Check:
    """What a seal would fix, and what it could decide."""

    state: State
    design: Design
    pilot_seeds: list[int]
    """Seeds of the exploratory pairs from which the smallest detectable effect is computed."""
    family: list[str]
    """Other experiments sealed on the same product set and metric."""


def check(workspace: Workspace, experiment: Experiment) -> Check:
    """Everything that sealing looks at, without sealing.

    Raises RecordError when the paper has no such claim, and what `current_state` raises; problems of the
    design itself are in the result.
    """
    state = current_state(workspace, experiment)
    papers.load(workspace, state.hypothesis.paper).claim(state.hypothesis.claim)
    others = sorted(family(workspace, experiment.slug, state.data, state.hypothesis.metric))
    pilot = _pilot_differences(experiment.runs(), state)
    design = assess_design(state.hypothesis, list(pilot.values()) or None, len(others) + 1)
    return Check(state, design, sorted(pilot), others)


def seal(workspace: Workspace, experiment: Experiment) -> SealEntry:
    """Fix hypothesis, notebook, technique code and product set. Sealing the same state again changes nothing.

    Raises SealError when the design cannot be decided, or when another state is sealed already.
    """
    earlier = experiment.seal()
    checked = check(workspace, experiment)
    if earlier is not None:
        changed = checked.state.differences(earlier.current)
        if not changed:
            return earlier.current
        raise SealError(
            f"another state is sealed already; changed since: {', '.join(changed)}",
            fix=f'undo the change, or run `claimbook amend {experiment.slug} --reason "…"`: '
            "runs made before an amendment never count for it",
            where=experiment.seal_path.relative_to(workspace.root),
        )
    return _append(workspace, experiment, checked, [], None)


def amend(workspace: Workspace, experiment: Experiment, reason: str) -> tuple[SealEntry, list[str]]:
    """Seal the state as it is now and say which parts changed; the earlier seals are kept.

    Runs made under an earlier seal never count for the new one. Raises SealError without a reason, when
    nothing was sealed, when nothing changed, or when the design cannot be decided.
    """
    earlier = experiment.seal()
    if earlier is None:
        raise SealError("nothing is sealed yet", fix=f"run `claimbook seal {experiment.slug}`")
    if not reason.strip():
        raise SealError("an amendment needs a reason", fix='say why: --reason "…"')
    checked = check(workspace, experiment)
    changed = checked.state.differences(earlier.current)
    if not changed:
        raise SealError("nothing changed since the seal", fix="go on with it; there is nothing to amend")
    return _append(workspace, experiment, checked, earlier.entries, reason.strip()), changed


def _append(
    workspace: Workspace, experiment: Experiment, checked: Check, earlier: list[SealEntry], reason: str | None
) -> SealEntry:
    checked.design.refuse()
    state, git = checked.state, git_state(workspace.root)
    commit = git["commit"]
    entry = SealEntry(
        hash=SealEntry.digest(state.hypothesis, state.notebook, state.code, state.data),
        sealed_at=now(),
        hypothesis=state.hypothesis,
        notebook=state.notebook,
        code=state.code,
        data=state.data,
        data_description=state.data_description,
        git=f"{commit}{'+dirty' if git['diff'] else ''}" if commit else None,
        reason=reason,
    )
    experiment.save_seal(Seal(entries=[*earlier, entry]))
    return entry


def _pilot_differences(runs: list[Run], state: State) -> dict[int, float]:
    """treatment − baseline per seed of the exploratory pairs made with this notebook, latest runs first."""
    metric = state.hypothesis.metric
    scores: dict[int, dict[str, float]] = defaultdict(dict)
    for run in runs:
        if (
            run.kind == "exploratory"
            and run.status == "finished"
            and metric in run.metrics
            and run.fingerprints.get("notebook") == state.notebook
        ):
            scores[run.seed][run.arm] = run.metrics[metric]
    return {
        seed: arms["treatment"] - arms["baseline"]
        for seed, arms in scores.items()
        if {"baseline", "treatment"} <= arms.keys()
    }
