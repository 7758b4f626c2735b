"""Everything that the records say of one experiment, as far as it can be read.

One broken file does not hide the others: each is read by itself, and what fails is kept as an error. While
there is one, no verdict is shown. Knows nothing of pages.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal, TypeVar

from claimbook.errors import ClaimbookError, SiteError
from claimbook.experiments import BY_HAND, Experiment, finished_runs
from claimbook.papers import load
from claimbook.records import Decision, Hypothesis, Paper, Rerun, Run, Seal, Step, Verdict, encode_json
from claimbook.workspace import Workspace

T = TypeVar("T")
State = Literal["judged", "outdated", "sealed", "unsealed", "broken"]


@dataclass
class Dossier:
    """An experiment as far as its records can be read."""

    experiment: Experiment
    hypothesis: Hypothesis | None = None
    """The sealed one where there is a seal."""
    changed: list[str] = field(default_factory=list)
    """Fields of hypothesis.toml that are no longer what was sealed."""
    seal: Seal | None = None
    recorded: Verdict | None = None
    """What verdict.json says, current or not."""
    decision: Decision | None = None
    learned: str = ""
    runs: list[Run] = field(default_factory=list)
    reruns: list[Rerun] = field(default_factory=list)
    """Replications of the verdict, oldest first."""
    steps: dict[str, list[Step]] = field(default_factory=dict)
    """Step metrics by run id, of runs that have some."""
    errors: list[ClaimbookError] = field(default_factory=list)

    @property
    def slug(self) -> str:
        """The experiment's folder name."""
        return self.experiment.slug

    @property
    def title(self) -> str:
        """The sealed hypothesis's title, else the one in the file, else the slug."""
        return self.hypothesis.title if self.hypothesis else self.slug

    @property
    def state(self) -> State:
        """How far the experiment has come."""
        if self.errors:
            return "broken"
        if self.recorded is not None:
            return "judged" if self.seal and self.recorded.seal == self.seal.current.hash else "outdated"
        return "sealed" if self.seal else "unsealed"

    @property
    def verdict(self) -> Verdict | None:
        """The verdict to show: the recorded one where it is about the seal in force and nothing is broken."""
        return self.recorded if self.state == "judged" else None

    @property
    def planned(self) -> int:
        """How many runs the hypothesis asks for."""
        return len(self.hypothesis.arm_names()) * len(self.hypothesis.seeds) if self.hypothesis else 0

    @property
    def done(self) -> int:
        """How many of them are finished under the seal in force."""
        return len(finished_runs(self.seal.current, self.runs)) if self.seal else 0

    @property
    def next(self) -> tuple[str, str] | None:
        """What comes next: a word of the interface and the command, which may be empty."""
        if self.state == "broken":
            return "next_mend", ""
        if self.state == "unsealed":
            return "next_seal", f"claimbook check {self.slug} && claimbook seal {self.slug}"
        if self.state in ("sealed", "outdated"):
            if self.done < self.planned:
                return "next_run", f"claimbook run {self.slug}"
            return "next_judge", f"claimbook judge {self.slug}"
        return None if self.decision and self.decision.decision else ("next_decide", "")

    def environment_differences(self, run: Run) -> list[tuple[str, str | None, str | None]]:
        """Name, usual and own value of what sets a run's environment apart from the one most runs share."""
        usual = self._usual_environment()
        return [
            (name, usual.get(name), run.environment.get(name))
            for name in sorted(usual.keys() | run.environment.keys())
            if usual.get(name) != run.environment.get(name)
        ]

    def _usual_environment(self) -> dict[str, str]:
        counted = Counter(tuple(sorted(run.environment.items())) for run in self.runs)
        return dict(counted.most_common(1)[0][0]) if counted else {}


def _is_current(rerun: Rerun, seal: Seal | None) -> bool:
    return seal is not None and rerun.seal == seal.current.hash


def read_dossier(workspace: Workspace, slug: str) -> Dossier:
    """Read an experiment's files one by one; what cannot be read is in `errors`."""
    experiment = Experiment(workspace.experiments / slug)
    dossier = Dossier(experiment)

    def attempt(read: Callable[[], T], default: T) -> T:
        return attempted(read, default, dossier.errors, f"experiments/{slug}")

    written = attempt(experiment.hypothesis, None)
    dossier.seal = attempt(experiment.seal, None)
    dossier.hypothesis = dossier.seal.current.hypothesis if dossier.seal else written
    if dossier.seal and written:
        dossier.changed = _changed(dossier.seal.current.hypothesis, written)
    dossier.recorded = attempt(experiment.verdict, None)
    dossier.decision, dossier.learned = attempt(experiment.decision, None) or (None, "")
    dossier.runs = attempt(experiment.runs, [])
    reruns: list[Rerun] = []
    dossier.reruns = [one for one in attempt(experiment.reruns, reruns) if _is_current(one, dossier.seal)]
    for run in dossier.runs:
        logged = attempt(partial(experiment.steps, run.id), None)
        if logged and logged[0]:
            dossier.steps[run.id] = logged[0]
    return dossier


def read_paper_or_error(workspace: Workspace, slug: str, errors: list[ClaimbookError]) -> Paper | None:
    """A paper of the library; None, and one more error, when it cannot be read."""
    return attempted(lambda: load(workspace, slug), None, errors, f"papers/{slug}")


def experiment_slugs(workspace: Workspace) -> list[str]:
    """The folders that are experiments, also those whose hypothesis.toml has gone missing."""
    marks = ("hypothesis.toml", "seal.json", "verdict.json")
    return sorted(_folders_with(workspace.experiments, marks) - {BY_HAND})


def paper_slugs(workspace: Workspace) -> list[str]:
    """The folders that are papers, also those with one of their two files missing."""
    return sorted(_folders_with(workspace.papers, ("README.md", "meta.json")))


def _folders_with(parent: Path, marks: tuple[str, ...]) -> set[str]:
    return {path.parent.name for mark in marks for path in parent.glob(f"[!.]*/{mark}")}


def attempted(read: Callable[[], T], default: T, errors: list[ClaimbookError], where: str) -> T:
    """What `read` returns, or the default and one more error."""
    try:
        return read()
    except ClaimbookError as error:
        errors.append(error)
    except (OSError, UnicodeError) as error:
        errors.append(SiteError(str(error), fix="mend the file or its permissions", where=where))
    return default


def _changed(sealed: Hypothesis, written: Hypothesis) -> list[str]:
    old, new = encode_json(sealed), encode_json(written)
    return [name for name in old if old[name] != new[name]]
