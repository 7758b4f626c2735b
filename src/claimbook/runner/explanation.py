"""A run beside the one that would be made now: what differs, what it would take to reuse it.

Whether it is reused is the rule of `reuse`. What the rule does not look at (versions, hardware, git, how the
kernel was started) is shown here too.
"""

from __future__ import annotations

import difflib
import json
import shlex
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import msgspec

from claimbook.errors import ClaimbookError
from claimbook.experiments import BY_HAND, Experiment
from claimbook.records import Run, SealedSources
from claimbook.records.experiment import Value
from claimbook.runner.parameters import read_cells
from claimbook.runner.reuse import (
    Change,
    Coverage,
    as_said,
    coverage,
    differing,
    planned_parameters,
    reusable,
)
from claimbook.runner.state import State, current_state
from claimbook.surroundings import distributions, git_state, kernel_environment
from claimbook.workspace import Workspace

_ONLY_ITS_RECORD_TELLS = ("gpu", "cuda", "driver", "threads", "imported_from")


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """A run beside the one that would be made now for its arm and seed."""

    run: str
    experiment: str
    arm: str
    seed: int
    kind: str
    status: str
    seal: str | None
    """Hash of the seal that the run was made under."""
    seal_in_force: str | None
    reused: bool
    """Whether `command` takes this very run."""
    hinders: list[str]
    """Why it does not, a phrase each."""
    command: str | None
    """What plans a run of this arm and seed now; None where nothing can."""
    advice: str
    """The next step, a sentence."""
    parameters: list[Change] = []
    cells: list[str] = []
    """Which code cells changed, where the earlier ones are kept."""
    code: list[Change] = []
    """Source files, by the sha256 that each had and has."""
    data: Change | None = None
    """The product set's fingerprint."""
    difference: str = ""
    """Notebook and source files as a unified diff, as far as their earlier text is kept."""
    beside: list[Change] = []
    """Python, versions, processor, git: shown, and no hindrance."""
    made_with: dict[str, str] = {}
    """Where and how it was made, where there is nothing of now to compare: GPU, kernel, fallbacks."""


def explain(workspace: Workspace, experiment: Experiment, run: Run) -> Explanation:
    """Compare a run with what `claimbook run` would make now for its arm and seed.

    Raises RecordError when the experiment's seal or ledger was edited; a state that cannot be told is part of
    the explanation.
    """
    seal = experiment.seal()
    known = Explanation(
        run=run.id,
        experiment=experiment.slug,
        arm=run.arm,
        seed=run.seed,
        kind=run.kind,
        status=run.status,
        seal=run.seal,
        seal_in_force=seal.current.hash if seal else None,
        reused=False,
        hinders=[],
        command=None,
        advice="",
        beside=list(_beside(run, workspace)),
        made_with=_made_with(run),
    )
    if experiment.slug == BY_HAND:
        origin = "; ".join(run.why_exploratory) or "made by hand"
        return msgspec.structs.replace(
            known,
            hinders=[f"no hypothesis plans it ({origin})"],
            advice="write a hypothesis for its notebook, `claimbook new`: runs of it count once it is sealed",
        )
    try:
        state = current_state(workspace, experiment, seeds=[run.seed])
    except ClaimbookError as error:
        place = f"{error.where}: " if error.where else ""
        return msgspec.structs.replace(
            known, hinders=[f"no run can be made now: {place}{error.problem}"], advice=error.fix
        )
    comparison = _Comparison(workspace, experiment, run, state, coverage(experiment, state))
    return comparison.explanation(known)


@dataclass(frozen=True)
class _Comparison:
    """A run and the state that another would be made of."""

    workspace: Workspace
    experiment: Experiment
    run: Run
    state: State
    covered: Coverage

    def explanation(self, known: Explanation) -> Explanation:
        """What is known of the run, and how it differs."""
        run, state, taken = self.run, self.state, self._taken()
        hinders = self._hinders(taken)
        planned = planned_parameters(run, state)
        was, data = _sources(self.experiment, run), _fingerprint(run, "data")
        found = msgspec.structs.replace(
            known,
            reused=not hinders,
            hinders=hinders,
            command=self._command({}),
            parameters=[] if planned is None else list(differing(run.parameters, planned)),
            cells=[] if was.notebook is None else _changed_cells(was.notebook, state.sources.notebook),
            code=list(differing(_code(run), state.code)) if "code" in run.fingerprints else [],
            data=Change("product set", data, state.data) if data and data != state.data else None,
            difference="\n".join(_difference(run, was, state)),
            made_with={**known.made_with, **self._fallbacks()},
        )
        return msgspec.structs.replace(found, advice=self._advice(found, taken))

    def _hinders(self, taken: Run | None) -> list[str]:
        hinders = self._hinders_of(self.run)
        if self._put_away:
            return ["it was put away", *hinders]
        if not hinders and taken and taken.id != self.run.id:
            return [f"{taken.id}, made before it, is taken"]
        return hinders

    def _hinders_of(self, run: Run) -> list[str]:
        said = as_said(self.experiment, run, [self.state.fingerprints])
        return reusable(said, self.state, self.covered.seal)

    @property
    def _put_away(self) -> bool:
        return not self.experiment.run_folder(self.run.id).exists()

    def _taken(self) -> Run | None:
        """The run that is reused for this arm and seed, if there is one."""
        pair = (self.run.arm, self.run.seed)
        same = (run for run in self.experiment.runs() if (run.arm, run.seed) == pair)
        return next((run for run in same if not self._hinders_of(run)), None)

    def _fallbacks(self) -> dict[str, str]:
        """What the run's fallbacks made of the parameters that are planned, if it took some."""
        planned = self.state.parameters.get((self.run.arm, self.run.seed))
        fallen = planned_parameters(self.run, self.state)
        if not self.run.fallbacks or planned is None or fallen is None:
            return {}
        changed = ", ".join(f"{one.what} {one.text}" for one in differing(planned, fallen))
        return {"fallbacks": f"{_fallbacks(self.run)}: {changed}"}

    def _advice(self, found: Explanation, taken: Run | None) -> str:
        slug, arms = self.experiment.slug, self.state.hypothesis.arm_names()
        if found.reused:
            return f"nothing to do: `{found.command}` reuses it"
        if self._put_away:
            return f"`claimbook restore {self.run.id}` brings it back"
        if self.run.status == "running":
            return "wait for its end, or stop it where it was started"
        if self.run.kind == "replication":
            return f"replications serve `claimbook rerun {slug}` alone"
        if self.run.arm not in arms:
            return f"hypothesis.toml has no arm {self.run.arm!r}; it has {', '.join(arms)}"
        if pilot := self._pilot():
            return f"`{pilot}` reuses it"
        if taken:
            return f"nothing to do: `{found.command}` reuses {taken.id} in its place"
        again = f"`{found.command}` makes one{self._what_it_would_be()}"
        changed = any([found.parameters, found.cells, found.code, found.data, found.difference])
        if changed and self.run.status == "finished" and self.run.seal == found.seal_in_force:
            return f"undo what changed, and it is reused; else {again}"
        return again

    def _what_it_would_be(self) -> str:
        """What follows behind "makes one": whether that would count."""
        if self.covered.seal is not None:
            return " under the seal in force"
        if self.experiment.seal() is None:
            return f", exploratory until `claimbook seal {self.experiment.slug}`"
        changed = self.run.seed in self.state.hypothesis.seeds
        seal = f"; `claimbook amend {self.experiment.slug}` seals it as it is now" if changed else ""
        return f", exploratory ({', '.join(self.covered.why_exploratory)}){seal}"

    def _pilot(self) -> str | None:
        """The command of a pilot that would take this exploratory run, if its parameters alone are others."""
        planned = planned_parameters(self.run, self.state)
        if self.run.kind != "exploratory" or planned is None or self.run.parameters.keys() != planned.keys():
            return None
        changes = {name: value for name, value in self.run.parameters.items() if value != planned[name]}
        if not changes or "seed" in changes:
            return None
        try:
            state = current_state(self.workspace, self.experiment, seeds=[self.run.seed], changes=changes)
        except ClaimbookError:
            return None
        covered = coverage(self.experiment, state, changes)
        return None if reusable(self.run, state, covered.seal) else self._command(changes)

    def _command(self, changes: Mapping[str, Value]) -> str:
        """How a run of this arm and seed is made now."""
        words = ["claimbook", "run", self.experiment.slug]
        if self.run.seed not in self.state.hypothesis.seeds:
            words += ["--seeds", str(self.run.seed)]
        for name, value in changes.items():
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            words += ["--set", f"{name}={text}"]
        return shlex.join(words)


@dataclass(frozen=True)
class _Sources:
    """What is kept of the text that a run was made of."""

    notebook: list[str] | None
    code: Mapping[str, str]


def _sources(experiment: Experiment, run: Run) -> _Sources:
    """From the seals, and from the run's executed notebook, each by its hash."""
    seal = experiment.seal()
    kept = [experiment.sealed_sources(entry) for entry in seal.entries] if seal else []
    code, notebook = _code(run), _fingerprint(run, "notebook")
    texts: dict[str, str] = {}
    cells = _executed(experiment, run)
    for sources in filter(None, kept):
        same = (name for name, digest in sources.code_digests.items() if code.get(name) == digest)
        texts |= {name: sources.code[name] for name in same}
        if sources.notebook_digest == notebook:
            cells = sources.notebook
    return _Sources(cells, texts)


def _executed(experiment: Experiment, run: Run) -> list[str] | None:
    """The code cells of a run's executed notebook, if it is there and what the run was made of."""
    path = experiment.notebook_path(run.id)
    with suppress(ClaimbookError):
        cells = [cell["source"] for cell in read_cells(path) if not _is_injected(cell)]
        sources = SealedSources(notebook=cells, code={})
        if sources.notebook_digest == _fingerprint(run, "notebook"):
            return sources.notebook
    return None


def _is_injected(cell: Mapping[str, Any]) -> bool:
    """Whether papermill wrote a cell, to set the parameters."""
    return "injected-parameters" in (cell.get("metadata") or {}).get("tags", [])


def _difference(run: Run, was: _Sources, state: State) -> Iterator[str]:
    """A unified diff of what changed; a line that says so where the earlier text is lost."""
    before, after = dict(was.code), dict(state.sources.code)
    changed = [one.what for one in differing(_code(run), state.code)]
    if _fingerprint(run, "notebook") not in (None, state.notebook):
        changed.insert(0, "notebook")
        after["notebook"] = _numbered(state.sources.notebook)
        if was.notebook is not None:
            before["notebook"] = _numbered(was.notebook)
    for name in changed:
        added = name != "notebook" and name not in _code(run)
        if name not in before and not added:
            yield f"# {name}: its earlier text was not kept"
            continue
        old, new = before.get(name, "").splitlines(), after.get(name, "").splitlines()
        yield from difflib.unified_diff(old, new, f"run/{name}", f"now/{name}", lineterm="", n=2)


def _numbered(cells: list[str]) -> str:
    return "\n\n".join(f"# code cell {number}\n{cell}" for number, cell in enumerate(cells, start=1))


def _changed_cells(was: list[str], now: list[str]) -> list[str]:
    """Which cells are not what they were, a phrase each; white space around a cell does not count."""
    before, after = ([cell.strip() for cell in cells] for cells in (was, now))
    found = []
    for tag, i, i_end, j, j_end in difflib.SequenceMatcher(None, before, after, False).get_opcodes():
        if tag == "insert":
            found += [f"code cell {number} is new" for number in range(j + 1, j_end + 1)]
        elif tag == "delete":
            found += [f"code cell {number} is gone" for number in range(i + 1, i_end + 1)]
        elif tag == "replace":
            found += [f"code cell {number} changed" for number in range(i + 1, i_end + 1)]
    return found


def _code(run: Run) -> dict[str, str]:
    code = run.fingerprints.get("code", {})
    return code if isinstance(code, dict) else {}


def _fingerprint(run: Run, part: str) -> str | None:
    found = run.fingerprints.get(part)
    return found if isinstance(found, str) else None


def _beside(run: Run, workspace: Workspace) -> Iterator[Change]:
    now = {**distributions(), **kernel_environment()}
    was = {name: value for name, value in run.environment.items() if name not in _ONLY_ITS_RECORD_TELLS}
    yield from differing(was, {name: now[name] for name in was if name in now})
    if run.git:
        git = {f"git {name}": value for name, value in run.git.items() if value is not None}
        today = {
            f"git {name}": value for name, value in git_state(workspace.root).items() if value is not None
        }
        yield from differing(git, today)


_COLD = {True: "the same numbers", False: "other numbers", None: "it did not finish"}


def _made_with(run: Run) -> dict[str, str]:
    """Where and how a run was computed, in the words of its record."""
    told = {name: run.environment[name] for name in _ONLY_ITS_RECORD_TELLS if name in run.environment}
    if run.kernel is not None:
        told["kernel"] = f"{run.kernel} ({run.why_cold})" if run.why_cold else run.kernel
    if run.fallbacks:
        told["fallbacks"] = _fallbacks(run)
    if run.cold_check is not None:
        told["repeated cold"] = _COLD[run.cold_check.same]
    return told


def _fallbacks(run: Run) -> str:
    return f"{run.fallbacks}, because memory ran out"
