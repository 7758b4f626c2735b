"""What the verbs that ask arXiv share: the client, and a line for what became of each paper."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from claimbook.papers.adding import Result
    from claimbook.papers.client import ArxivClient
    from claimbook.papers.ids import Complaint
    from claimbook.papers.outcomes import Outcome, Stale
    from claimbook.workspace import Workspace

OFFLINE = click.option("--offline", is_flag=True, help="Ask nobody: take what the cache has.")


@dataclass(frozen=True)
class Answer:
    """What became of one thing that was asked for."""

    asked: str
    result: str
    """As `Added.change`, or in a word or two why it is not in the library."""
    text: str
    """The rest of the line, for people."""
    slug: str | None = None
    """None when it is not in the library."""
    before: int | None = None
    """The newest version known before."""
    latest: int | None = None
    """The newest version known now."""
    stale_seconds: float | None = None
    """How old the answer of the cache is that stands in for arXiv's; None where arXiv answered."""


def client_of(workspace: Workspace, offline: bool) -> ArxivClient:
    """A client with the workspace's cache, which says on standard error why it waits."""
    from claimbook.papers.client import ArxivClient

    cache = workspace.cache / "arxiv"
    return ArxivClient(cache, offline=offline, report=lambda text: click.echo(text, err=True))


def collect(
    workspace: Workspace,
    answers: list[Answer],
    results: Callable[[Callable[[int, int], None]], Iterable[Result]],
    as_json: bool,
) -> list[Answer]:
    """Take papers in under a bar, then print what became of each, also when it is stopped in between.

    answers: what is known beforehand, such as complaints. results: told how to report progress. as_json:
    leave the printing to the caller. Returns all answers.
    """
    from claimbook.display import counted
    from claimbook.papers import write_tables

    answers = list(answers)
    try:
        with counted("papers") as report:
            for result in results(report):
                answers.append(_answer(result))
    except KeyboardInterrupt:
        here = sum(answer.slug is not None for answer in answers)
        click.echo(f"stopped: {here} of them are in the library; the same command goes on", err=True)
        raise
    finally:
        write_tables(workspace)  # before anything is said: what is said may be cut off
        if not as_json:
            for answer in answers:
                colour = "red" if answer.slug is None else None
                click.echo(f"{click.style(f'{answer.result:14}', fg=colour)} {answer.text}")
    return answers


def age_of(stale: Stale) -> str:
    """How old an answer of the cache is, in words."""
    hours = stale.age.total_seconds() / 3600
    return f"{stale.age.days} days" if hours >= 48 else f"{hours:.0f} hours"


def malformed(complaint: Complaint, title: str, place: str) -> Answer:
    """The answer to what is no arXiv id. title: of the entry of a file; place: file and line, or nothing."""
    named = f"{title[:80]}: " if title and title not in complaint.problem else ""
    where = f"{place}: " if place else ""
    text = f"{where}{named}{complaint.problem}; {complaint.fix}"
    return Answer(title or complaint.text, "malformed", text)


def failure(outcome: Outcome | None) -> tuple[str, str]:
    """Why a paper is not there: in a word or two, and in a sentence."""
    from claimbook.papers.outcomes import Failure, Malformed, NotFound, RateLimited

    if isinstance(outcome, NotFound):
        return "not found", "arXiv has no such paper, or no such version of it"
    if isinstance(outcome, Malformed):
        return "malformed", f"{outcome.complaint.problem}; {outcome.complaint.fix}"
    if isinstance(outcome, RateLimited):
        return "rate limited", f"{outcome.reason}; not before {outcome.until.astimezone():%Y-%m-%d %H:%M:%S}"
    assert isinstance(outcome, Failure), "the others are papers"
    return type(outcome).__name__.lower(), outcome.reason


def _answer(result: Result) -> Answer:
    from claimbook.papers.outcomes import Found, Stale

    asked, added, outcome = str(result.paper), result.added, result.outcome
    if result.error is not None:
        return Answer(asked, "not written", f"{asked}: {result.error}")
    if added is None:
        word, problem = failure(outcome)
        return Answer(asked, word, f"{asked}: {problem}")
    text = added.slug
    if added.change == "new version":
        text += f"  v{added.before} → v{added.latest}"
    elif added.change == "added" and isinstance(outcome, Found | Stale):
        text += f"  {outcome.entry.title}"
    if isinstance(outcome, Stale):
        text += f"  (stale, from the cache, {age_of(outcome)} old: {outcome.because.reason})"
    seconds = outcome.age.total_seconds() if isinstance(outcome, Stale) else None
    return Answer(asked, added.change, text, added.slug, added.before, added.latest, seconds)
