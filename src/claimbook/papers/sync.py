"""The library brought up to date with arXiv: new versions, withdrawals, published journals, code and models.

Only meta.json is written; a person's note is not even opened for writing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from claimbook.errors import ClaimbookError
from claimbook.papers.client import ArxivClient
from claimbook.papers.ids import ArxivId
from claimbook.papers.library import load, update
from claimbook.papers.metadata import News, news
from claimbook.papers.outcomes import Found, Outcome, Stale
from claimbook.records import Paper
from claimbook.workspace import Workspace


@dataclass(frozen=True)
class Synced:
    """What came of one paper."""

    slug: str
    outcome: Outcome
    news: list[News] = field(default_factory=list)


def sync(
    workspace: Workspace,
    client: ArxivClient,
    slugs: Iterable[str],
    *,
    fresh: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[list[Synced], list[ClaimbookError]]:
    """Ask arXiv for the newest version of papers, and write what has changed; with the papers that cannot be
    read, and are left as they are.

    fresh: ask also for what arXiv answered within a day. Interrupted, the papers that were written are whole
    and the others as before. A meta.json in which nothing but the time would change is left alone: git shows
    no change where there is none.
    """
    papers: list[Paper] = []
    unreadable: list[ClaimbookError] = []
    for slug in slugs:
        try:
            papers.append(load(workspace, slug))
        except ClaimbookError as error:
            unreadable.append(error)
    outcomes = client.fetch([ArxivId(paper.meta.id) for paper in papers], fresh, progress)
    synced = []
    for paper in papers:
        outcome = outcomes[ArxivId(paper.meta.id)]
        brought: list[News] = []
        try:
            if isinstance(outcome, Found | Stale):
                brought = news(*update(workspace, paper.slug, outcome.entry, outcome.fetched_at))
        except ClaimbookError as error:  # moved or broken while arXiv was asked
            unreadable.append(error)
            continue
        synced.append(Synced(paper.slug, outcome, brought))
    return synced, unreadable
