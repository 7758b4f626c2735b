"""The verb that brings the library up to date with arXiv: `paper sync`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from claimbook.cli.asking import OFFLINE, age_of, client_of, failure
from claimbook.cli.printing import AS_JSON, print_json
from claimbook.errors import PaperError

if TYPE_CHECKING:
    from claimbook.papers.drift import Drift
    from claimbook.papers.sync import Synced
    from claimbook.workspace import Workspace


@click.command(epilog="Example: claimbook paper sync siglip")
@click.argument("slugs", nargs=-1)
@click.option("--fresh", is_flag=True, help="Ask also for what arXiv answered within a day.")
@OFFLINE
@AS_JSON
def sync(slugs: tuple[str, ...], fresh: bool, offline: bool, as_json: bool) -> None:
    """Ask arXiv what is new: versions, withdrawals, journals, code.

    For the papers named, or all. Says which readings and experiments stand on an older version. Notes are
    never written.
    """
    from claimbook import papers, workspace
    from claimbook.display import counted
    from claimbook.papers.sync import sync as bring_up_to_date

    here = workspace.find()
    named = [papers.find(here, slug) for slug in dict.fromkeys(slugs)] or list(papers.catalogue(here))
    try:
        with counted("papers") as report:
            synced, unreadable = bring_up_to_date(
                here, client_of(here, offline), named, fresh=fresh, progress=report
            )
    finally:
        papers.write_tables(here)
    for error in unreadable:
        click.secho(f"left out: {error}", fg="yellow", err=True)
    behind = _behind(here, synced)
    if as_json:
        print_json(
            {
                "papers": list(map(_record, synced)),
                "behind": [vars(one) for one in behind],
                "unreadable": [str(error) for error in unreadable],
            }
        )
    else:
        _print(synced, behind)
    missed = sum(not _is_current(one) for one in synced) + len(unreadable)
    if missed:
        raise PaperError(
            f"{missed} of {len(named)} papers are not up to date",
            fix="see what is said of each, then try again",
        )


def _behind(workspace: Workspace, synced: list[Synced]) -> list[Drift]:
    from claimbook.papers import holdings
    from claimbook.papers.drift import drift

    asked = {one.slug for one in synced}
    return drift(workspace, {one.slug: one for one in holdings(workspace).papers if one.slug in asked})


def _is_current(one: Synced) -> bool:
    from claimbook.papers.outcomes import Found

    return isinstance(one.outcome, Found)


def _record(one: Synced) -> dict[str, Any]:
    state, reason = _state(one)
    return {"slug": one.slug, "state": state, "reason": reason, "news": [vars(news) for news in one.news]}


def _state(one: Synced) -> tuple[str, str]:
    """What came of asking, in a word or two, and why it is not what one would wish."""
    from claimbook.papers.outcomes import Found, Stale

    if isinstance(one.outcome, Found):
        return "current", ""
    if isinstance(one.outcome, Stale):
        return "stale", f"the answer of {age_of(one.outcome)} ago stands: {one.outcome.because.reason}"
    return failure(one.outcome)


def _print(synced: list[Synced], behind: list[Drift]) -> None:
    for one in synced:
        state, reason = _state(one)
        for news in one.news:
            click.echo(f"{click.style(one.slug, bold=True)}: {news.text}")
        if state != "current":
            click.secho(f"{one.slug}: {state}: {reason}", fg="red")
    quiet = sum(_is_current(one) and not one.news for one in synced)
    click.echo(f"{quiet} of {len(synced)} papers: nothing new")
    for each in behind:
        click.secho(str(each), fg="yellow")
