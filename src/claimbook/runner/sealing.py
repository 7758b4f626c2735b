"""Before the first run that counts: check a design, seal it, amend a seal."""

from __future__ import annotations

import difflib
import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from claimbook import papers
from claimbook.errors import SealError
from claimbook.experiments import Experiment
from claimbook.judge import Design, Finding, assess_design
from claimbook.judge.of_experiment import family
from claimbook.records import Hypothesis, Run, SealedSources, SealEntry, encode_json
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
    pilot = _pilot_differences(runs, state) if state.hypothesis.scope == "method" else {}
    design = assess_design(state.hypothesis, list(pilot.values()) or None, len(others) + 1)
    found = (*design.problems, *_same_arms(state), *_seen_before(runs, state))
    return Check(state, replace(design, problems=found), sorted(pilot), others)


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
    return _append(workspace, experiment, checked, None, None)


def amend(workspace: Workspace, experiment: Experiment, reason: str) -> tuple[SealEntry, list[str]]:
    """Seal the state as it is now and say which parts changed; the earlier seals are kept.

    The new entry holds the reason and a unified diff of hypothesis, notebook, technique code and product set.
    Runs made under an earlier seal never count for the new one, also when nothing changed: that is for
    records that are lost. Raises SealError without a reason, when nothing was sealed, or when the design
    cannot be decided.
    """
    earlier = experiment.seal()
    if earlier is None:
        raise SealError("nothing is sealed yet", fix=f"run `claimbook seal {experiment.slug}`")
    if not reason.strip():
        raise SealError("an amendment needs a reason", fix='say why: --reason "…"')
    checked = check(workspace, experiment, amending=True)
    changed = checked.state.differences(earlier.current)
    return _append(workspace, experiment, checked, earlier.current, reason.strip()), changed


def differences_in_full(experiment: Experiment, sealed: SealEntry, state: State) -> str:
    """What changed since a seal, as a unified diff: hypothesis, notebook, technique code, product set."""
    kept = experiment.sealed_sources(sealed)
    before, after = _texts(sealed.hypothesis, kept, sealed), _texts(state.hypothesis, state.sources, state)
    changed: list[str] = []
    for name in [*before, *(name for name in after if name not in before)]:
        old, new = before.get(name, ""), after.get(name, "")
        if kept is None and name not in _ALWAYS_KEPT:
            continue
        changed += difflib.unified_diff(
            old.splitlines(), new.splitlines(), f"sealed/{name}", f"now/{name}", lineterm="", n=2
        )
    if kept is None:
        changed += [f"{part} (its sealed text was not kept)" for part in state.differences(sealed)]
    return "\n".join(changed)


_ALWAYS_KEPT = ("hypothesis", "product set")


def _texts(hypothesis: Hypothesis, sources: SealedSources | None, fixed: SealEntry | State) -> dict[str, str]:
    """A state as named texts that a person can compare."""
    texts = {
        "hypothesis": "\n".join(_lines_of(encode_json(hypothesis))),
        "product set": f"{fixed.data_description}\nfingerprint {fixed.data}",
    }
    if sources is not None:
        cells = (f"# cell {number}\n{cell}" for number, cell in enumerate(sources.notebook, start=1))
        texts["notebook"] = "\n\n".join(cells)
        texts.update(sources.code)
    return texts


def _lines_of(value: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """Nested values as lines such as `arms.treatment.loss = "sigmoid"`."""
    for name, item in value.items():
        if isinstance(item, dict):
            yield from _lines_of(item, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name} = {json.dumps(item, ensure_ascii=False)}"


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


def _seen_before(runs: list[Run], state: State) -> list[Finding]:
    """Registered seeds whose result has been seen unsealed: sealing them now would fix what is known."""
    seen = {
        run.seed
        for run in runs
        if run.kind == "exploratory"
        and run.status == "finished"
        and run.parameters == state.parameters.get((run.arm, run.seed))
    }
    if not seen:
        return []
    fresh = max([*state.hypothesis.seeds, *(run.seed for run in runs)]) + 1
    return [
        Finding(
            f"seeds {', '.join(map(str, sorted(seen)))} were run with these parameters before the seal",
            f"register seeds that nobody has seen, such as {fresh} to "
            f"{fresh + len(state.hypothesis.seeds) - 1}, and make pilots with `--seeds`",
        )
    ]


def _pilot_differences(runs: list[Run], state: State) -> dict[int, float]:
    """treatment − baseline per seed of the latest pilot: exploratory pairs of this notebook and product set.

    The arms must be set as in the hypothesis; the other parameters need only be the same in all of the
    pilot's runs, so that a pilot may be scored on the validation split.
    """
    hypothesis = state.hypothesis
    own = {name for arm in hypothesis.arms.values() for name in arm}
    pilots: dict[str, dict[tuple[str, int], float]] = defaultdict(dict)
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
        pilots[latest][run.arm, run.seed] = run.metrics[hypothesis.metric]
    pilot = pilots.get(latest, {})
    return {
        seed: pilot["treatment", seed] - score
        for (arm, seed), score in pilot.items()
        if arm == "baseline" and ("treatment", seed) in pilot
    }
