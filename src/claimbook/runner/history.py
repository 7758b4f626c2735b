"""What the log knows of a hypothesis before it is sealed: was it tried before, how worn is the test set?"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

from claimbook import papers
from claimbook.errors import ClaimbookError
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
    same = {slug: title for slug in others if (title := _title_of_same_claim(workspace, slug, state))}
    titles = {**same, **{hit.slug: hit.title for hit in hits}}
    return History(wear, [_tried(workspace, slug, title, slug in same) for slug, title in titles.items()])


def _title_of_same_claim(workspace: Workspace, slug: str, state: State) -> str | None:
    """The title of another experiment if it tests the same claim of the same paper."""
    try:
        other = Experiment.of(workspace, slug).hypothesis()
    except ClaimbookError:  # another experiment's broken file is no reason to hold this one up
        return None
    same = (other.paper, other.claim) == (state.hypothesis.paper, state.hypothesis.claim)
    return other.title if same else None


def _tried(workspace: Workspace, slug: str, title: str, same_claim: bool) -> Tried:
    outcome = None
    with suppress(ClaimbookError):
        verdict = Experiment.of(workspace, slug).verdict()
        outcome = verdict.outcome if verdict else None
    return Tried(slug, title, outcome, same_claim)
