"""How far a week's paper has come: the checklist of what makes it count, and what mends each gap.

A paper counts when it is read, its note is filled in, a hypothesis on one of its claims is sealed, all runs
that the hypothesis plans are finished under the seal in force, and they are judged under it. An amendment
opens the paper again until its own runs are made. The built page is asked of the current week only: site/
can be deleted at any time, so that past weeks rest on the files that last.

Knows the files of papers, experiments and pages; knows nothing of streaks.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from claimbook.errors import RecordError
from claimbook.experiments import Experiment, finished_runs
from claimbook.records import Paper
from claimbook.week.note import lacks
from claimbook.workspace import Workspace

Step = Literal["read", "note", "sealed", "runs", "judged", "page"]


@dataclass(frozen=True)
class Item:
    """One line of the checklist."""

    step: Step
    missing: str | None
    """What is missing, in words; None when it is there."""
    mend: str
    """The command that brings it, or the file to write."""

    @property
    def done(self) -> bool:
        """Whether nothing is missing."""
        return self.missing is None


@dataclass(frozen=True)
class Progress:
    """How far one paper has come."""

    slug: str
    title: str
    items: tuple[Item, ...]
    """In the order in which they are done."""
    experiment: str | None
    """The experiment that the checklist is about."""
    last: datetime | None
    """When the last of the sealing and the runs that count was over; None before the sealing."""

    @property
    def missing(self) -> list[Item]:
        """What is still to do."""
        return [item for item in self.items if not item.done]


@dataclass(frozen=True)
class Trial:
    """An experiment on a paper's claim, as far as it has come under the seal in force."""

    slug: str
    paper: str
    claim: str
    planned: int
    """Runs that the hypothesis asks for."""
    finished: int = 0
    sealed: bool = False
    judged: bool = False
    last: datetime | None = None
    """When the last of the sealing and the runs that count was over."""


def read_trial(experiment: Experiment) -> Trial:
    """An experiment's progress from its files. Raises RecordError when one of them is broken."""
    seal = experiment.seal()
    hypothesis = seal.current.hypothesis if seal else experiment.hypothesis()
    planned = len(hypothesis.arm_names()) * len(hypothesis.seeds)
    if seal is None:
        return Trial(experiment.slug, hypothesis.paper, hypothesis.claim, planned)
    runs = finished_runs(seal.current, experiment.runs())
    verdict = experiment.verdict()
    times = [seal.current.sealed_at, *(run.ended or run.started for run in runs.values())]
    return Trial(
        experiment.slug,
        hypothesis.paper,
        hypothesis.claim,
        planned,
        len(runs),
        sealed=True,
        judged=verdict is not None and verdict.seal == seal.current.hash,
        last=max(_moment(time, experiment) for time in times),
    )


def progress(workspace: Workspace, paper: Paper, trials: Iterable[Trial]) -> Progress:
    """The checklist of a paper, as far as lasting files tell.

    trials: all experiments, of which the one counts that has come furthest on one of the paper's claims.
    """
    on_paper = [trial for trial in trials if trial.paper == paper.slug]
    claims = {claim.id for claim in paper.note.claims}
    trial = max((one for one in on_paper if one.claim in claims), key=_how_far, default=None)
    status = paper.note.status
    items = (
        Item(
            "read",
            None if status == "read" else f"status is {status}",
            f"claimbook paper status {paper.slug} read",
        ),
        Item("note", lacks(paper.body), f"papers/{paper.slug}/README.md"),
        *(_of_trial(trial) if trial else _without_trial(workspace, paper, on_paper)),
    )
    slug, last = (trial.slug, trial.last) if trial else (None, None)
    return Progress(paper.slug, paper.meta.title, items, slug, last)


def page_item(workspace: Workspace, paper: Progress, *, building: bool = False) -> Item:
    """Whether the pages of a paper and of its experiment are there, and no older than their records.

    building: they are being built, so that they count as there.
    """
    if paper.experiment is None:
        missing: str | None = "no experiment to show"
    else:
        missing = None if building else _page_lacks(workspace, paper.slug, paper.experiment)
    return Item("page", missing, "claimbook site build")


def _page_lacks(workspace: Workspace, paper: str, experiment: str) -> str | None:
    pages = (f"papers/{paper}.html", f"experiments/{experiment}.html")
    built = min(_changed(workspace.site / page) for page in pages)
    of_paper = (workspace.papers / paper / name for name in ("README.md", "meta.json"))
    of_experiment = (path for name in _SHOWN for path in (workspace.experiments / experiment).glob(name))
    newest = max(map(_changed, (*of_paper, *of_experiment)))
    return "not built" if not built else "older than the records" if built < newest else None


_SHOWN = (
    "hypothesis.toml",
    "README.md",
    "seal.json",
    "verdict.json",
    "runs/*/run.json",
    "reruns/*.json",
)
"""The records that an experiment's page shows; a run's run.json is the last of its files to be written."""


def _how_far(trial: Trial) -> tuple[bool, float, bool, float]:
    """What the furthest of several experiments has most of; of two that are through, the earlier one."""
    share = trial.finished / trial.planned
    return trial.sealed, share, trial.judged, -trial.last.timestamp() if trial.last else 0.0


def _of_trial(trial: Trial) -> Iterator[Item]:
    slug = trial.slug
    sealed = None if trial.sealed else f"experiment {slug} is not sealed"
    yield Item("sealed", sealed, f"claimbook check {slug} && claimbook seal {slug}")
    done = trial.sealed and trial.finished == trial.planned
    yield Item(
        "runs", None if done else f"{trial.finished} of {trial.planned} finished", f"claimbook run {slug}"
    )
    yield Item("judged", None if trial.judged else "no verdict under this seal", f"claimbook judge {slug}")


def _without_trial(workspace: Workspace, paper: Paper, others: list[Trial]) -> Iterator[Item]:
    """The items of a paper that no experiment tests: others are about claims that its note does not list."""
    slug, claims = paper.slug, paper.note.claims
    missing = "no experiment on one of its claims"
    mend = f"papers/{slug}/README.md"
    if others:
        missing = f"experiment {others[0].slug} tests {others[0].claim!r}, no claim of the note"
    elif claims:
        notebook = slug if (workspace.notebooks / f"{slug}.ipynb").is_file() else "NOTEBOOK"
        claim = shlex.quote(claims[0].id)
        mend = f"claimbook new {slug} --paper {slug} --claim {claim} --notebook {notebook}"
    else:
        missing = "the note lists no claim"
    yield Item("sealed", missing, mend)
    yield Item("runs", "none", f"claimbook run {slug}")
    yield Item("judged", "no verdict", f"claimbook judge {slug}")


def _changed(path: Path) -> int:
    """When a file's content was last changed, nanoseconds; 0 when there is no such file."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def _moment(text: str, experiment: Experiment) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise RecordError(
            f"{text!r} is no time",
            fix="restore seal.json and run.json (git checkout), they are written by the machine only",
            where=f"experiments/{experiment.slug}",
        ) from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
