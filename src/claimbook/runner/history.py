"""What the log knows of a hypothesis before it is sealed: was it tried before, how worn is the test set?"""

from __future__ import annotations

from dataclasses import dataclass

from claimbook import papers
from claimbook.experiments import Experiment
from claimbook.index import Index, Wear
from claimbook.runner.state import State
from claimbook.workspace import Workspace

_SHOWN = 3
"""Earlier experiments that a person will look at."""


@dataclass(frozen=True)
class Tried:
    """An earlier experiment that resembles this one."""

    experiment: str
    title: str
    outcome: str | None
    """Of its verdict; None where there is none."""
    same_claim: bool
    """Whether it tests the same claim of the same paper."""


@dataclass(frozen=True)
class History:
    """What was done before."""

    wear: Wear
    """How often the product set has been scored: every look at a test set makes the next one weaker."""
    tried: list[Tried]
    """Most alike first."""


def history(workspace: Workspace, experiment: Experiment, state: State) -> History:
    """Look a hypothesis up in the log, by its product set and by the words of its title, claim and method."""
    hypothesis = state.hypothesis
    claim = papers.load(workspace, hypothesis.paper).claim(hypothesis.claim)
    text = " ".join([hypothesis.title, claim.text, hypothesis.questions.method])
    with Index.open(workspace) as index:
        hits = index.similar(text, exclude=experiment.slug, limit=_SHOWN)
        wear = index.wear(state.data)
    others = [slug for slug in workspace.slugs("experiments") if slug != experiment.slug]
    same = [slug for slug in others if _same_claim(workspace, slug, state)]
    slugs = dict.fromkeys([*same, *(hit.slug for hit in hits)])
    return History(wear, [_tried(Experiment.of(workspace, slug), slug in same) for slug in slugs])


def _same_claim(workspace: Workspace, slug: str, state: State) -> bool:
    other = Experiment.of(workspace, slug).hypothesis()
    return (other.paper, other.claim) == (state.hypothesis.paper, state.hypothesis.claim)


def _tried(other: Experiment, same_claim: bool) -> Tried:
    verdict = other.verdict()
    return Tried(other.slug, other.hypothesis().title, verdict.outcome if verdict else None, same_claim)
