"""Which experiments rest on an older version of their paper: "you reproduced v2, v4 exists".

Computed from the files at every call, kept nowhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from claimbook.errors import ClaimbookError
from claimbook.experiments import experiments
from claimbook.records import Hypothesis, Paper
from claimbook.workspace import Workspace


@dataclass(frozen=True)
class Drift:
    """An experiment, or the reading itself, that stands on a version which is no longer the newest."""

    paper: str
    version: int
    """The one that was read for the claim."""
    latest: int
    experiment: str | None = None
    """None: no experiment, the note's own `read_version`."""
    withdrawn: str | None = None
    """Why the newest version looks withdrawn."""

    def __str__(self) -> str:
        what = "you read" if self.experiment is None else f"{self.experiment} reproduces"
        newer = f"{what} v{self.version} of {self.paper}; v{self.latest} exists"
        return f"{newer}, and looks withdrawn: {self.withdrawn}" if self.withdrawn else newer


def drift(workspace: Workspace, papers: Mapping[str, Paper]) -> list[Drift]:
    """All readings and experiments that stand on an older version of one of these papers, by paper.

    papers: by slug. An experiment stands on the version of its claim, else on the one that the note says was
    read; where neither is written down nothing is known. One whose hypothesis cannot be read is left out, as
    it is wherever it is shown.
    """
    found = [_behind(paper, paper.note.read_version, None) for paper in papers.values()]
    for experiment in experiments(workspace):
        try:
            seal = experiment.seal()
            hypothesis = seal.current.hypothesis if seal else experiment.hypothesis()
        except ClaimbookError:
            continue
        if hypothesis.paper in papers:
            found.append(of_experiment(experiment.slug, hypothesis, papers[hypothesis.paper]))
    order = list(papers)
    return sorted(
        (one for one in found if one), key=lambda one: (order.index(one.paper), one.experiment or "")
    )


def of_experiment(slug: str, hypothesis: Hypothesis, paper: Paper) -> Drift | None:
    """How far a hypothesis is behind its paper; None when it is not, or when nobody knows."""
    claim = next((claim for claim in paper.note.claims if claim.id == hypothesis.claim), None)
    version = (claim.version if claim else None) or paper.note.read_version
    return _behind(paper, version, slug)


def _behind(paper: Paper, version: int | None, experiment: str | None) -> Drift | None:
    if version is None or version >= paper.meta.latest:
        return None
    return Drift(paper.slug, version, paper.meta.latest, experiment, paper.meta.withdrawn)
